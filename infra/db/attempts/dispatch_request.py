"""The data of a dispatch, read at once, and the request that the node gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from infra import telemetry
from infra.db.connection import Connection
from infra.db.tasks import limits
from infra.json import strict_json
from infra.nodes.address import NodeAddress
from workflows.domain.attempt import run_id

ANSWER_S = 5.0
"""No answer is held for a task that expires within this time: until the answer it counts as not started."""

CREDENTIAL = "CASE WHEN (a.ip, a.port) = (g.ip, g.port) THEN g.dispatch_secret END"
"""SQL: the secret for calls about an attempt `a`; null if its node `g` has moved, since another host may be at the old
address by now."""

_REQUEST = f"""
    SELECT t.task_id, a.attempt, a.gpu_id, a.token, a.ip, a.port, {CREDENTIAL} AS secret, t.task_type, t.app,
           t.user_id, t.env, t.timeout_ms, t.payload, t.traceparent,
           CASE WHEN a.accepted_at IS NULL THEN {limits.passed("t")} END AS past,
           {limits.expires_within("t", ANSWER_S)} AS expires_soon
      FROM attempts a JOIN tasks t USING (task_id) JOIN gpus g ON g.gpu_id = a.gpu_id
     WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s AND a.closed_at IS NULL
    """


@dataclass(frozen=True)
class DispatchRequest:
    """An open attempt with all that the node is sent."""

    task_id: str
    attempt: int
    gpu_id: str
    token: str
    ip: str
    port: int
    secret: str | None
    task_type: int
    app: str
    user_id: str
    env: str | None
    timeout_ms: int
    payload: str
    traceparent: str | None
    past: str | None = None  # the limit of the task that has passed, while no node has accepted the attempt
    expires_soon: bool = False

    @property
    def node(self) -> NodeAddress:
        """Where the node is."""
        return NodeAddress(self.ip, self.port, self.secret)

    @property
    def run_id(self) -> str:
        """The attempt's id on its node (NODE_PROTOCOL)."""
        return run_id(self.task_id, self.attempt)

    def body(self, base_url: str) -> dict[str, Any]:
        """The body of the dispatch (NODE_PROTOCOL)."""
        return {
            "input": _input(self.payload),
            "context": {
                "taskId": self.task_id,
                "attempt": self.attempt,
                "taskType": self.task_type,
                "app": self.app,
                "userId": self.user_id,
                "env": self.env,
                "timeout": self.timeout_ms,
            },
            "webhook": f"{base_url}/api/v2/tasks/{self.task_id}",
        }

    def headers(self) -> dict[str, str]:
        """Headers of the dispatch: the attempt's token, and the trace that the node joins."""
        traceparent = telemetry.traceparent_in(self.traceparent)
        return {"X-Attempt-Token": self.token} | ({"traceparent": traceparent} if traceparent else {})


async def read_request(connection: Connection, task_id: str, attempt: int) -> DispatchRequest | None:
    """The dispatch of an open attempt; None where it is closed."""
    return await connection.one_or_none(DispatchRequest, _REQUEST, {"task_id": task_id, "attempt": attempt})


def _input(payload: str) -> Raw | dict[str, str]:
    """A JSON object as it was written; anything else as a string (NODE_PROTOCOL)."""
    try:
        strict_json.check_text(payload)
    except ValueError:
        return {"payload": payload}
    return Raw(payload) if payload.lstrip().startswith("{") else {"payload": payload}
