"""The allocator against any interleaving: concurrent sessions on the real database, driven by Hypothesis.

Each step runs several operations at once, each in a session of its own, as several API and worker
processes would. After each step the books must balance, and no task that has asked for a slot may wait
while one that it could use is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from psycopg import AsyncCursor

from infra.db.attempts import queries as attempt_queries
from infra.db.connection import Connection
from infra.db.nodes.drains import Drain
from infra.db.nodes.queries import Registration
from infra.db.repair.invariants import DRAINED
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.outlook import Outlook
from infra.db.transactions import claim_slot, collect_attempt, create_task, node_state, release_attempt, settle_attempt
from tests.db import rows
from tests.db.machine import DatabaseMachine, drive, over
from tests.db.sessions import untyped
from workers.stack.stack import Stack
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import GpuNotFound

NODES = ("n1", "n2", "n3")
TYPES = (1, 2)
OUTCOMES = (
    Outcome.SUCCEEDED,
    Outcome.FAILED,
    Outcome.LOST,
    Outcome.HANDED_BACK,
    Outcome.TIMED_OUT,
    Outcome.REJECTED,
    Outcome.PROTOCOL_ERROR,
)

FLEETS = (rows.ALL_TAKEN, rows.ONE_FREE)
CREATE = st.tuples(
    st.just("create"), st.sampled_from(TYPES), st.sampled_from("ab"), st.integers(0, 3), st.sampled_from(FLEETS)
)
CLAIM = st.tuples(st.just("claim"), st.integers(0, 50))
SETTLE = st.tuples(st.just("settle"), st.integers(0, 50), st.sampled_from(OUTCOMES))
REGISTER = st.tuples(
    st.just("register"),
    st.sampled_from(NODES),
    st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True),
    st.integers(1, 3),
    st.sampled_from(("NORMAL", "VIP")),
)
NODE_EDGE = st.tuples(
    st.sampled_from(("fault", "recover", "deregister", "drain", "undrain", "undrain")), st.sampled_from(NODES)
)
STEP = st.lists(st.one_of(CREATE, CLAIM, CLAIM, SETTLE, SETTLE, REGISTER, NODE_EDGE), min_size=1, max_size=6)

WORKS = "{0}.status = 'ACTIVE' AND {0}.gone_at IS NULL AND {0}.drained_at IS NULL"
OVERFULL = """
    SELECT g.gpu_id FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id AND a.closed_at IS NULL
     GROUP BY g.gpu_id, g.max_concurrent_tasks
    HAVING count(*) > g.max_concurrent_tasks OR max(a.slot) > g.max_concurrent_tasks
"""
WAITS_WITH_A_GRANT = """
    SELECT t.task_id FROM tasks t JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NULL
     WHERE t.waiting_since IS NOT NULL OR a.attempt <> t.attempts
"""
IDLE_BESIDE_WORK = f"""
    SELECT t.task_id, g.gpu_id FROM tasks t JOIN gpus g ON t.task_type = ANY (g.task_types)
     WHERE t.waiting_since IS NOT NULL
       AND {WORKS.format("g")} AND COALESCE(g.not_before < clock_timestamp(), true)
       AND (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.released_at IS NULL)
           < CASE WHEN g.rests > 0 THEN 1 ELSE g.max_concurrent_tasks END
       AND NOT g.gpu_id = ANY (t.barred_on)
       AND NOT (g.gpu_id = ANY (t.failed_on) AND EXISTS (
           SELECT FROM gpus o WHERE {WORKS.format("o")} AND t.task_type = ANY (o.task_types)
              AND o.gpu_id <> ALL (t.failed_on || t.barred_on)))
"""
HELD = """
    SELECT task_id, attempt FROM attempts
     WHERE gpu_id = %(gpu_id)s AND closed_at IS NOT NULL AND released_at IS NULL
"""
BROKEN_HISTORY = """
    SELECT task_id FROM task_events GROUP BY task_id HAVING count(*) <> max(seq) OR min(seq) <> 1
"""
ACTIVE = "SELECT task_types FROM gpus WHERE gpu_id = %(gpu_id)s AND status = 'ACTIVE'"
BEST = f"""
    SELECT t.task_id FROM tasks t WHERE t.waiting_since IS NOT NULL AND t.task_type = ANY (%(types)s)
       AND NOT (%(gpu_id)s = ANY (t.barred_on) AND EXISTS (
           SELECT FROM gpus o WHERE {WORKS.format("o")} AND t.task_type = ANY (o.task_types)
              AND o.gpu_id <> ALL (t.barred_on)))
       AND NOT (%(gpu_id)s = ANY (t.failed_on) AND EXISTS (
           SELECT FROM gpus o WHERE {WORKS.format("o")} AND t.task_type = ANY (o.task_types)
              AND o.gpu_id <> ALL (t.failed_on || t.barred_on)))
     ORDER BY t.queue_class DESC, t.queue_rank, t.display_id LIMIT 1
"""


class Dawdling(Connection):
    """A connection that stops for a moment before each statement and before the commit: races become likely."""

    def __init__(self, connection: Connection, chance: Random) -> None:
        super().__init__(connection._opened, connection.policy)
        self._chance = chance

    async def _executed(self, *arguments: Any) -> AsyncCursor[Any]:
        await self.dawdle()
        return await super()._executed(*arguments)

    async def dawdle(self) -> None:
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.random() * 0.006)


class Allocator(DatabaseMachine):
    """Tasks are known by number; an operation on what is not there does nothing."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Two busy nodes and a queue: most of what follows is a fight for their slots."""
        self.chance = Random(seed)
        self.created: list[str] = []
        self.do(lambda c: c.execute(rows.EMPTY))
        self.at_once([("register", "n1", [1], 1, "NORMAL"), ("register", "n2", [1, 2], 2, "NORMAL")])
        self.at_once(
            [("create", 1 + number % 2, "ab"[number % 3 == 0], number % 3, FLEETS[number % 2]) for number in range(7)]
        )
        self.at_once([("claim", number) for number in range(7)])

    @rule(step=STEP)
    def at_once(self, step: list[tuple[Any, ...]]) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for name, *arguments in step:
                    group.create_task(getattr(self, name)(*arguments))

        self.runner.run(all_of_them())

    @rule(number=st.integers(0, 50))
    def the_freed_slot_goes_to_the_best(self, number: int) -> None:
        """Alone, an assignment is exact: class, then rank, then age."""
        self.runner.run(self._assign(number))

    @invariant()
    def books_balance(self) -> None:
        for rule_broken in (OVERFULL, WAITS_WITH_A_GRANT, IDLE_BESIDE_WORK, BROKEN_HISTORY, DRAINED.broken):
            assert self.rows(rule_broken) == [], rule_broken

    async def session(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """One transaction of one process, with pauses in it."""

        async def slowly(connection: Connection) -> Any:
            dawdling = Dawdling(connection, self.chance)
            done = await work(dawdling)
            await dawdling.dawdle()
            return done

        return await self.database.run(slowly)

    async def _assign(self, number: int) -> None:
        attempt = await self._open(number)
        if attempt is None:
            return
        task_id, attempt_number, gpu_id = attempt

        async def finish(connection: Connection) -> tuple[Any, Any]:
            active = await untyped(connection, ACTIVE, {"gpu_id": gpu_id})
            if not active:
                return None, None
            best = await connection.one_or_none(str, BEST, {"types": active[0].task_types, "gpu_id": gpu_id})
            end = End(Outcome.SUCCEEDED, result="{}")
            settled = await settle_attempt.settle(connection, task_id, attempt_number, end, actor="test")
            await collect_attempt.collect(connection, task_id, attempt_number)
            return best, settled.notifications

        best, settled = await self.database.run(finish)
        if best is not None and settled.grants:
            assert best in [one.task.task_id for one in settled.grants]

    async def create(self, task_type: int, app: str, priority: int, seen: Nodes) -> None:
        """`seen` is what the process believes of the fleet, which may have been true a moment ago."""
        task_id = f"t{len(self.created)}"
        self.created.append(task_id)
        task = rows.new_task(task_id, task_type, app=app, priority=priority, queue_class=int(priority >= 2))
        outlook = Outlook(Capacity(seen, list(TYPES), [], 1.0))
        created = await self.session(lambda c: create_task.create(c, task, outlook, weight=1.0, by=rows.CREATOR))
        if created.grant is None and not created.waits:  # as its workflow does then
            await claim_slot.claim(self.session, task_id)

    async def claim(self, number: int) -> None:
        if self.created:
            task_id = self.created[number % len(self.created)]
            await claim_slot.claim(self.session, task_id)

    async def settle(self, number: int, outcome: Outcome) -> None:
        attempt = await self._open(number)
        if attempt is not None:
            await self._settle(*attempt[:2], outcome)

    async def register(self, gpu_id: str, types: list[int], slots: int, queue: str) -> None:
        node = Registration(gpu_id, "h", None, "127.0.0.1", 1, types, queue, "1", slots, {}, None, "k")
        await self.session(lambda c: node_state.register(c, node))
        for held in await self.session(lambda c: untyped(c, HELD, {"gpu_id": gpu_id})):
            await self.session(partial(release_attempt.release, task_id=held.task_id, attempt=held.attempt))

    async def fault(self, gpu_id: str) -> None:
        await self._existing(lambda c: node_state.fault(c, gpu_id, "test"))
        await self._close_all(gpu_id, Outcome.FAULTY)

    async def recover(self, gpu_id: str) -> None:
        await self._existing(lambda c: node_state.recover(c, gpu_id))

    async def deregister(self, gpu_id: str) -> None:
        await self._existing(lambda c: node_state.deregister(c, gpu_id))
        await self._close_all(gpu_id, Outcome.DEREGISTERED)

    async def drain(self, gpu_id: str) -> None:
        await self._existing(lambda c: node_state.drain(c, gpu_id, Drain("test", "fan")))

    async def undrain(self, gpu_id: str) -> None:
        await self._existing(lambda c: node_state.undrain(c, gpu_id))

    async def _existing(self, work: Callable[[Connection], Awaitable[Any]]) -> None:
        try:
            await self.session(work)
        except GpuNotFound:
            return

    async def _close_all(self, gpu_id: str, outcome: Outcome) -> None:
        for row in await self.session(lambda c: attempt_queries.open_on(c, gpu_id)):
            await self._settle(row.task_id, row.attempt, outcome)

    async def _settle(self, task_id: str, attempt: int, outcome: Outcome) -> None:
        """Do as the report and then the task's workflow do: settle, collect, and look for a slot again."""
        result = "{}" if outcome is Outcome.SUCCEEDED else None
        await self.session(
            lambda c: settle_attempt.settle(c, task_id, attempt, End(outcome, "r", result), actor="test")
        )
        await self.session(lambda c: release_attempt.release(c, task_id, attempt))
        if await self.session(lambda c: collect_attempt.complete(c, task_id, attempt)) is None:
            await self.session(lambda c: collect_attempt.collect(c, task_id, attempt))
        await claim_slot.claim(self.session, task_id)

    async def _open(self, number: int) -> tuple[str, int, str] | None:
        statement = "SELECT task_id, attempt, gpu_id FROM attempts WHERE closed_at IS NULL ORDER BY task_id"

        found = await self.database.run(lambda c: untyped(c, statement))
        return found[number % len(found)] if found else None


@pytest.fixture
def machine(stack: Stack) -> Iterator[type[Allocator]]:
    with over(stack, "allocator", Allocator) as here:
        yield here


def test_no_interleaving_breaks_the_books(machine: type[Allocator]) -> None:
    drive(machine, runs=15, steps=10)
