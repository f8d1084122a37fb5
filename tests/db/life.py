"""Lives of tasks and nodes on only the database, in one transaction: what API, workflows and nodes would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from infra.db.connection import only
from infra.db.nodes.queries import Registration
from infra.db.queue import position
from infra.db.slots import capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.tasks import queries as task_queries
from infra.db.transactions import (
    claim_slot,
    collect_attempt,
    create_task,
    judge_nodes,
    node_state,
    release_attempt,
    settle_attempt,
)
from tests.db import rows
from tests.db.sessions import Session
from workflows.domain.attempt import End, Outcome
from workflows.domain.priority import queue_class
from workflows.domain.task import TERMINAL
from workflows.messages import Collected
from workflows.notifications import Notifications


@dataclass
class Life:
    """Everything happens on one connection, which its fixture rolls back."""

    connection: Session
    weights: dict[str, float] = field(default_factory=dict)

    async def node(self, gpu_id: str, types: list[int], *, slots: int = 1, serves: str = "NORMAL") -> None:
        node = Registration(gpu_id, "h", None, "127.0.0.1", 1, types, serves, "1", slots, {}, None, "k")
        await node_state.register(self.connection, node)

    async def create(
        self,
        task_id: str,
        task_type: int = 1,
        *,
        app: str = "a",
        flow: str | None = None,
        priority: int = 1,
        max_retries: int = 9,
        claims_slot: bool = False,
    ) -> int:
        """`estimated_wait_s` of the new task."""
        vip = queue_class(priority) > 0
        task = rows.new_task(
            task_id,
            task_type,
            app=app,
            priority=priority,
            queue_class=int(vip),
            max_retries=max_retries,
            flow=flow,
        )
        seen = await capacity.read(self.connection, Wanted(task_type, vip=vip))
        weight = self.weights.get(app, 1.0)
        created = await create_task.create(
            self.connection,
            task,
            Outlook(seen),
            weight=weight,
            by=rows.CREATOR,
            claims_slot=claims_slot,
        )
        return int(created.row.estimated_wait_s)

    async def claim(self, task_id: str) -> str | None:
        """The node whose slot the task holds, after it has looked for one."""
        found = await claim_slot.claim(self.run, task_id)
        return found.grant.gpu_id if found.grant else None

    async def end(self, task_id: str, outcome: Outcome = Outcome.SUCCEEDED, reason: str | None = None) -> Collected:
        """The open attempt of a task ends, its slot goes on, its workflow collects, and takes a look at the nodes."""
        attempt = await self.settle(task_id, outcome, reason)
        collected = await collect_attempt.complete(self.connection, task_id, attempt)
        if collected is None:
            collected = await collect_attempt.collect(self.connection, task_id, attempt)
        if collected.status in TERMINAL:
            await self.review(task_id)
        return collected

    async def settle(self, task_id: str, outcome: Outcome = Outcome.SUCCEEDED, reason: str | None = None) -> int:
        """The open attempt of a task ends, and its slot goes on; its number."""
        attempt: int = await self.scalar("SELECT attempts FROM tasks WHERE task_id = %(t)s", t=task_id)
        result = "{}" if outcome is Outcome.SUCCEEDED else None
        end = End(outcome, reason, result)
        settled = await settle_attempt.settle(self.connection, task_id, attempt, end, actor="test")
        assert settled.answer is settle_attempt.SettleResult.SETTLED
        await release_attempt.release(self.connection, task_id, attempt)  # the node says at once that it has stopped
        return attempt

    async def review(self, task_id: str) -> Notifications:
        """Judge the nodes as `TaskSteps.collect` does once a task has ended."""
        return await judge_nodes.review(self.run, task_id)

    async def running(self) -> dict[str, str]:
        """The node of each task that holds a slot."""
        rows = await self.connection.rows("SELECT task_id, gpu_id FROM attempts WHERE closed_at IS NULL")
        return {row.task_id: row.gpu_id for row in rows}

    async def position(self, task_id: str) -> int:
        """`queuePosition`."""
        row = await task_queries.progress(self.connection, task_id)
        assert row is not None
        seen = await capacity.read(self.connection, Wanted(row.task_type, vip=row.vip))
        return await position.ahead(self.connection, row.place, seen.pool, limit=None) + 1

    async def waits_for(self, task_id: str) -> str:
        """The text of `waiting`."""
        row = await task_queries.progress(self.connection, task_id)
        assert row is not None
        seen = await capacity.read(self.connection, Wanted(row.task_type, vip=row.vip))
        return seen.nodes.reason()

    async def drain(self) -> list[str]:
        """Let one task after another complete; the order in which the waiting ones were given slots."""
        order: list[str] = []
        while running := await self.running():
            await self.end(min(running))
            order += sorted(set(await self.running()) - set(running))
        return order

    async def fail_everywhere(self, task_id: str, *reasons: str, outcome: Outcome = Outcome.FAILED) -> list[str]:
        """Let a task fail with one reason after another; the nodes where it did."""
        nodes: list[str] = []
        for reason in reasons:
            gpu_id = await self.claim(task_id)
            assert gpu_id is not None
            nodes.append(gpu_id)
            await self.end(task_id, outcome, reason)
        return nodes

    async def rests_for(self, gpu_id: str) -> float | None:
        """Seconds until the node gets work again; None where it does not rest."""
        statement = "SELECT extract(epoch FROM not_before - clock_timestamp())::float FROM gpus WHERE gpu_id = %(g)s"
        left: float | None = await self.scalar(statement, g=gpu_id)
        return left

    async def wake(self) -> None:
        """End every rest."""
        await self.do("UPDATE gpus SET not_before = NULL")

    async def alert(self, cause: str) -> Any:
        """How often the open alert of a cause was raised, and its message; None without one."""
        rows = await self.connection.rows("SELECT count, message FROM alerts WHERE cause = %(c)s", {"c": cause})
        return rows[0] if rows else None

    async def gpu(self, gpu_id: str) -> Any:
        """A node's row."""
        return only(await self.connection.rows("SELECT * FROM gpus WHERE gpu_id = %(g)s", {"g": gpu_id}))

    async def task(self, task_id: str) -> Any:
        """A task's row."""
        return only(await self.connection.rows("SELECT * FROM tasks WHERE task_id = %(t)s", {"t": task_id}))

    async def scalar(self, statement: str, **values: Any) -> Any:
        return await self.connection.scalar(statement, values)

    async def do(self, statement: str, **values: Any) -> None:
        await self.connection.execute(statement, values)

    async def run(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        return await work(self.connection)
