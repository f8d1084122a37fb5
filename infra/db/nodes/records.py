"""Failures that count against a node (workflows.domain.node_record), in its row, and the rests that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields

from infra.db import clock, holding
from infra.db.connection import Connection
from infra.db.locks import Release
from infra.db.ops import alerts
from infra.db.ops.alerts import NewAlert
from workflows.domain.alert import AlertLevel
from workflows.domain.attempt import HELD_S
from workflows.domain.node_record import NodeRecord, Rest, RestCause

COLUMNS = (
    "g.failure_count AS failed_contacts, g.task_failure_count AS task_failures, g.failed_tasks, g.failed_flow,"
    " g.rests, g.hand_backs"
)
"""Columns of a row `g` of `gpus`, for `Recorded`."""
_LOCK = f"SELECT g.status, {COLUMNS} FROM gpus g WHERE g.gpu_id = %(gpu_id)s FOR UPDATE"
# A rest that lasts longer goes on.
_WRITE = f"""
    UPDATE gpus g SET failure_count = %(failed_contacts)s, task_failure_count = %(task_failures)s,
           failed_tasks = %(failed_tasks)s, failed_flow = %(failed_flow)s,
           rests = %(rests)s, hand_backs = %(hand_backs)s,
           not_before = CASE WHEN CAST(%(pause_s)s AS float) IS NOT NULL
                             THEN GREATEST(clock_timestamp() + make_interval(secs => %(pause_s)s),
                                           CASE WHEN {clock.rests("not_before")} THEN not_before END)
                             WHEN NOT %(ends)s OR {holding.IS_BACK} THEN not_before END
     WHERE gpu_id = %(gpu_id)s
    """
CLEAN = (
    "failure_count = 0, task_failure_count = 0, failed_tasks = '{}', failed_flow = NULL, rests = 0, hand_backs = 0,"
    f" not_before = CASE WHEN {holding.IS_BACK} THEN not_before END"
)
"""The assignments, in a row `g` of `gpus`, of an empty record without a rest. The wait for stops lasts."""
REACHED = (
    f"failure_count = 0, not_before = CASE WHEN rests > 0 OR hand_backs > 0 OR {holding.IS_BACK} THEN not_before END"
)
"""The assignments, in a row `g`, of a node that can be reached again: a rest lasts that has another cause."""
_CLEAR = (
    f"UPDATE gpus g SET {CLEAN} WHERE gpu_id = %(gpu_id)s AND gone_at IS NULL"
    " AND (failure_count > 0 OR task_failure_count > 0 OR rests > 0 OR hand_backs > 0 OR not_before IS NOT NULL)"
)
# A node that is back may still run attempts that were closed in its absence: it gets work once it has stopped them.
_WAIT = f"""
    UPDATE gpus g SET not_before = GREATEST(not_before, clock_timestamp() + interval '{HELD_S:g} s')
     WHERE gpu_id = %(gpu_id)s AND status = 'ACTIVE'
       AND EXISTS (SELECT FROM attempts a WHERE a.gpu_id = g.gpu_id AND {holding.IS_TO_STOP})
    """
_END_WAIT = (
    "UPDATE gpus g SET not_before = NULL"
    f" WHERE gpu_id = %(gpu_id)s AND failure_count + rests + hand_backs = 0 AND NOT {holding.IS_BACK}"
)
REASON = 200
"""Characters of the last reason that an alert shows."""
_TEXTS = {
    RestCause.FAILS: "连续多个任务执行失败，暂停派发，之后逐个试探",
    RestCause.HANDS_BACK: "连续交回任务，暂停派发",
    RestCause.REFUSES: "持续拒绝派发，暂停派发",
    RestCause.UNREACHABLE: "对派发持续没有应答，暂停派发",
    RestCause.PROTOCOL: "应答不符合节点协议，暂停派发",
}


@dataclass(frozen=True, kw_only=True)
class Recorded(NodeRecord):
    """A row with `COLUMNS`."""

    @property
    def record(self) -> NodeRecord:
        """The columns as a `NodeRecord`."""
        own = {one.name: getattr(self, one.name) for one in fields(NodeRecord)}
        return NodeRecord(**own | {"failed_tasks": tuple(self.failed_tasks)})


@dataclass(frozen=True, kw_only=True)
class Locked(Recorded):
    """A node's row, locked."""

    status: str


async def lock(connection: Connection, gpu_id: str) -> Locked | None:
    """Lock a node's row; None where there is no such node."""
    return await connection.one_or_none(Locked, _LOCK, {"gpu_id": gpu_id})


async def write(
    connection: Connection, gpu_id: str, before: NodeRecord, now: NodeRecord, rest: Rest | None = None
) -> None:
    """Write a record that has changed, and begin or end the node's rest. The caller holds the node's row."""
    if now == before and rest is None:
        return
    counts = now.failed_contacts or now.hand_backs or now.rests
    values = now.__dict__ | {
        "gpu_id": gpu_id,
        "failed_tasks": list(now.failed_tasks),
        "pause_s": None if rest is None else rest.pause_s,
        "ends": not counts,
    }
    await connection.execute(_WRITE, values)


async def wait_for_stops(connection: Connection, gpu_id: str) -> None:
    """Give no work to a node that is back while it may still run closed attempts, for `HELD_S` at most."""
    await connection.execute(_WAIT, {"gpu_id": gpu_id})


async def has_stopped(connection: Connection, release: Release) -> None:
    """End that wait, unless the node has come back once more since; a rest for another reason lasts."""
    await connection.execute(_END_WAIT, release.__dict__)


async def clear(connection: Connection, release: Release) -> bool:
    """Empty a node's record and end its rest; False where there was neither."""
    return await connection.execute(_CLEAR, release.__dict__) == 1


async def raise_rest_alert(connection: Connection, gpu_id: str, rest: Rest, reason: str | None) -> None:
    """Raise the alert of a rest that people should know of."""
    words = f"：{reason[:REASON]}" if reason else ""
    alert = NewAlert(
        cause=f"rest:{rest.cause}:{gpu_id}",
        title="GPU节点暂停派发",
        message=f"GPU节点 {gpu_id} {_TEXTS[rest.cause]}{words}",
        level=AlertLevel.WARNING,
        source=alerts.GPU_MONITOR,
    )
    await alerts.raise_alert(connection, alert)
