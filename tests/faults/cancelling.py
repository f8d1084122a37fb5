"""Users who cancel their own tasks at a random moment, among the honest ones."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from tests.faults.clients import AGAIN_S, AT_ONCE, Clients, again_s_of
from tests.faults.work import TYPES, digest
from workflows.domain.attempt import HELD_S, NODE_STILL_RUNS_IT, Outcome

OWNER = "cancelling"
FIRST = 20_000_000  # tasks are numbered from there: their results are nobody else's
ENDS = 0.9
"""The share of the load's time after which cancelling ends."""
LONGEST_MS = 1500
WAITS_S = 2.0
"""The longest time from the creation to the cancel: some tasks have ended by then."""
SOON_S = 3.0
# A dispatch that is refused for want of a slot, soon after ours was released; 1: by the node's word.
_REFUSED = """
    SELECT r.task_id || '-' || r.attempt || ' on ' || r.gpu_id,
           (p.released_at - p.closed_at < make_interval(secs => %(held_s)s))::int
      FROM attempts r CROSS JOIN LATERAL (
           SELECT * FROM attempts p WHERE p.gpu_id = r.gpu_id AND p.slot = r.slot AND p.claimed_at < r.claimed_at
            ORDER BY p.claimed_at DESC LIMIT 1) p
     WHERE r.gpu_id = ANY(%(healthy)s) AND r.outcome = %(refused)s AND r.reason LIKE '%%HTTP 409%%'
       AND p.outcome = ANY(%(stopped)s) AND r.claimed_at - p.released_at < make_interval(secs => %(soon_s)s)
    """


@dataclass
class Cancelling:
    """`answered` maps a task's number to the status of the answer to its cancel, 200 or 400."""

    clients: Clients
    tasks: int
    accepted: dict[int, str] = field(default_factory=dict)
    answered: dict[int, int] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        """Create all tasks, spread over the load's time, and cancel each a random moment later."""
        chance = self.clients.plan.chance("cancels")
        pause_s = ENDS * self.clients.plan.seconds / max(1, self.tasks)
        turns = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for n in range(FIRST, FIRST + self.tasks):
                group.create_task(self._live(n, chance.randint(50, LONGEST_MS), chance.uniform(0, WAITS_S), turns))
                await asyncio.sleep(pause_s)

    async def _live(self, n: int, ms: int, wait_s: float, turns: asyncio.Semaphore) -> None:
        body = {"taskType": TYPES[n % len(TYPES)], "userId": OWNER, "app": OWNER, "priority": 1 + n % 2,
                "payload": json.dumps({"n": n, "ms": ms})}  # fmt: skip
        key = {"Idempotency-Key": f"{self.clients.plan.seed}-{n}"}
        async with turns:
            self.accepted[n] = (await self.clients.insist("POST", "/tasks", json=body, headers=key))["taskId"]
        await asyncio.sleep(wait_s)
        async with turns:
            self.answered[n] = await self._cancel(self.accepted[n])

    async def _cancel(self, task_id: str) -> int:
        """Cancel until the answer is 200 or 400."""
        while True:
            again_s = AGAIN_S
            try:
                response = await self.clients.http.post(f"/tasks/{task_id}/cancel")
            except httpx.HTTPError as error:
                self.clients.answers[type(error).__name__] += 1
            else:
                self.clients.answers[str(response.status_code)] += 1
                if response.status_code in {200, 400}:
                    return response.status_code
                again_s = again_s_of(response)
            await asyncio.sleep(again_s)

    async def check(self, url: str, healthy: tuple[str, ...]) -> list[str]:
        """The tasks that ended otherwise than their cancel was answered, and dispatches that our own stops spoiled."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(n: int, task_id: str) -> str | None:
            async with turns:
                task = await self.clients.insist("GET", f"/tasks/{task_id}")
                found = (await self.clients.insist("GET", f"/tasks/{task_id}/result"))["result"]
            answer, end = self.answered[n], f"{task['status']} {task['endReason']}"
            self.ends[f"{answer}: {end}"] += 1
            if _is_right(answer, task, found, n):
                return None
            return f"cancel of {task_id} was answered {answer}, and it is {end} with {found}"

        found = await asyncio.gather(*(one(n, task_id) for n, task_id in self.accepted.items()))
        return [*filter(None, found), *await self._refused(url, healthy)]

    async def _refused(self, url: str, healthy: tuple[str, ...]) -> list[str]:
        """Dispatches that a healthy node refused because it still ran what we had stopped.

        A slot that was held to the last is excused: in that time nobody could ask the node.
        """
        values = {"healthy": list(healthy), "held_s": HELD_S, "soon_s": SOON_S, "refused": Outcome.REFUSED.value,
                  "stopped": [one.value for one in NODE_STILL_RUNS_IT]}  # fmt: skip
        async with (
            await psycopg.AsyncConnection.connect(url) as connection,
            await connection.execute(_REFUSED, values) as cursor,
        ):
            rows = await cursor.fetchall()
        self.refused.update("after the node's word" if by_node else "after 10 s" for _, by_node in rows)
        return [f"{what} was refused right after our own stop" for what, by_node in rows if by_node]


def _is_right(answer: int, task: dict[str, Any], found: Any, n: int) -> bool:
    """Whether a task has ended as the answer to its cancel said."""
    if answer == 200:
        return (task["status"], task["endReason"], found) == ("FAILED", "CANCELLED", None)
    if task["status"] == "COMPLETED":
        return bool(found["digest"] == digest(n))
    return task["endReason"] not in {None, "CANCELLED"}
