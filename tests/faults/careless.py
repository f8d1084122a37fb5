"""A careless user among the honest ones: inputs that no node can do, limits that nobody can keep, apps made up."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.bad_nodes import BROKEN, FLAKY, REJECTED
from tests.faults.clients import AT_ONCE, Clients
from tests.faults.work import BY_CHANCE, RAISED, REFUSED, TYPES, digest

OWNER = "careless"
FIRST = 10_000_000  # tasks are numbered from there: their results are nobody else's
BEGINS, ENDS = 0.2, 0.4
"""The shares of the load's time at which it begins and ends."""
TIME_LIMIT = "超时"
BY_ANSWER = "节点拒绝该任务的输入"  # a 400 or 422: the node's own words are not shown
OF_BAD_NODES = (BROKEN, FLAKY)
"""The last attempt decides: these are the reasons where a bad node had it."""


@dataclass(frozen=True)
class Kind:
    """A request and its true ends: by status, the reasons of which the task names one."""

    ends: Mapping[str, tuple[str, ...]]
    input: Mapping[str, object] = field(default_factory=dict)
    more: Mapping[str, object] = field(default_factory=dict)


KINDS = {
    "wrong input": Kind({"FAILED": (RAISED, *OF_BAD_NODES)}, {"goes": "wrong"}, {"maxRetries": 3}),
    "rejected input": Kind({"FAILED": (REFUSED, REJECTED, BY_ANSWER)}, {"goes": "to no node"}),
    "fails by chance": Kind(
        {"COMPLETED": ("",), "FAILED": (BY_CHANCE, *OF_BAD_NODES)}, {"goes": "by chance"}, {"maxRetries": 1}
    ),
    # A result that comes before anybody has noticed that the time is up is accepted.
    "one millisecond": Kind(
        {"TIMEOUT": (TIME_LIMIT,), "COMPLETED": ("",), "FAILED": OF_BAD_NODES}, {}, {"timeout": 1, "maxRetries": 1}
    ),
    "invented app": Kind({"COMPLETED": ("",)}),
}


@dataclass
class Careless:
    """`clients` asks with a user's key of its own."""

    clients: Clients
    tasks: int
    accepted: dict[int, str] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        """Ask for all tasks, spread over a part of the load's time."""
        seconds = self.clients.plan.seconds
        await asyncio.sleep(BEGINS * seconds)
        for n in range(FIRST, FIRST + self.tasks):
            self.accepted[n] = (await self.clients.insist("POST", "/tasks", **self._asks(n)))["taskId"]
            await asyncio.sleep((ENDS - BEGINS) * seconds / self.tasks)

    def _asks(self, n: int) -> dict[str, Any]:
        kind = KINDS[_kind(n)]
        body = {
            "taskType": TYPES[n // len(KINDS) % len(TYPES)],
            "userId": OWNER,
            "app": f"invented_{n}",
            "priority": 1,
            "payload": json.dumps({"n": n, "ms": 100, **kind.input}),
            **kind.more,
        }
        return {"json": body, "headers": {"Idempotency-Key": f"{self.clients.plan.seed}-{n}"}}

    async def check(self) -> list[str]:
        """The tasks that ended otherwise than by their own doing, or with another reason."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(n: int, task_id: str) -> str | None:
            async with turns:
                task = await self.clients.insist("GET", f"/tasks/{task_id}")
                found = (await self.clients.insist("GET", f"/tasks/{task_id}/result"))["result"] or {}
            name, status, reason = _kind(n), task["status"], task["errorMessage"] or ""
            self.ends[f"{name}: {status}"] += 1
            its_own = any(one in reason for one in KINDS[name].ends.get(status, ()))
            if its_own and (status != "COMPLETED" or found.get("digest") == digest(n)):
                return None
            return f"careless task {n} ({name}, {task_id}) is {status} with {found}: {reason}"

        found = await asyncio.gather(*(one(n, task_id) for n, task_id in self.accepted.items()))
        return [complaint for complaint in found if complaint]


def _kind(n: int) -> str:
    return list(KINDS)[n % len(KINDS)]
