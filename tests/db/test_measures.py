"""Everything that happens is counted once, exactly, and no count falls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from infra.db.connection import Connection
from infra.db.ops import measures
from infra.db.ops.measures import Measures
from infra.db.queue import oldest
from infra.db.session import Database
from infra.db.slots import usage
from infra.db.tasks import transitions as task_transitions
from infra.db.transactions import end_task, forget
from infra.db.transactions.end_task import TaskEnd
from infra.metrics import exposition, fleet
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Session, Sessions
from workflows.domain.attempt import Outcome
from workflows.domain.task import EndReason

CANCEL = TaskEnd(EndReason.CANCELLED, "test", "why")
FORGET = "DELETE FROM counters WHERE counter LIKE 'ever:%%'"
MANY = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                       max_retries, queue_rank, completed_at, waiting_since)
    SELECT 't' || n, n %% 4, CASE WHEN n %% 2 = 0 THEN 'QUEUED' ELSE 'COMPLETED' END, 'u', 'a', 1, 0, '{}', 1, 0, n,
           CASE WHEN n %% 2 = 1 THEN clock_timestamp() END,
           CASE WHEN n %% 2 = 0 THEN clock_timestamp() - interval '1 h' END
      FROM generate_series(1, 20000) n"""
CLOSED = """
    INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port, closed_at, outcome,
                          released_at)
    SELECT 't' || n, 1, 'g', 1, 1, 't' || n, 'h', 1, clock_timestamp(), 'LOST', clock_timestamp()
      FROM generate_series(1, 20000) n"""
STEPS = """
    INSERT INTO task_events (task_id, seq, to_status, actor)
    SELECT 't' || n, 2, 'PROCESSING', 'test' FROM generate_series(1, 20000) n"""
LARGE = {"tasks", "attempts", "task_events", "event_log", "task_results", "late_reports", "deliveries", "audit_log"}


@pytest.fixture
async def database(engine: Sessions, database: Database) -> AsyncIterator[Database]:
    """Empty before and after."""
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
        await connection.execute(FORGET)
    yield database
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
        await connection.execute(FORGET)


async def added_up(database: Database, ended: int) -> Measures:
    """The measures, once this many tasks have been counted."""

    async def counted() -> Measures | None:
        await database.run(measures.add_up)
        found = await database.run(measures.read)
        return found if sum(found.ended.values()) >= ended else None

    found: Measures = await eventually(counted)
    return found


async def accept(life: Life, task_id: str) -> None:
    attempt = await life.scalar("SELECT attempts FROM tasks WHERE task_id = %(t)s", t=task_id)
    assert await task_transitions.accept(life.connection, task_id, attempt, "test")


async def some_lives(session: Session) -> None:
    """Seven ends, of tasks of type 1 and of a type that nobody serves."""
    life = Life(session)
    await life.node("n1", [1], slots=9)
    for name in ("completed", "short", "failed", "lost", "cancelled"):
        await life.create(name, max_retries=0)
        await life.claim(name)
    for name in ("completed", "failed", "lost", "cancelled"):
        await accept(life, name)
    await life.end("completed")
    await life.end("short")
    await life.end("failed", Outcome.FAILED)
    await life.end("lost", Outcome.LOST)
    await life.claim("lost")
    await accept(life, "lost")
    await life.end("lost")
    await life.create("waits", 7)
    for name in ("cancelled", "waits"):
        assert (await end_task.end(session, name, CANCEL)).changed


async def test_what_happens_is_counted_as_the_rows_have_it(database: Database, engine: Sessions) -> None:
    async with engine.begin() as session:
        await some_lives(session)
    found = await added_up(database, 6)
    assert found.ended == {("1", "COMPLETED"): 3, ("1", "FAILED"): 1, ("1", "CANCELLED"): 1, ("7", "CANCELLED"): 1}
    counts = {name: sum(found.histograms[name]["1"].buckets.values()) for name in found.histograms}
    assert counts == {"wait": 5, "run": 3, "dispatch": 5, "eta_error": 5}  # the short one was never accepted
    assert all(of_type.keys() == {"1"} for of_type in found.histograms.values())
    statement = """
        SELECT CASE outcome WHEN 'SUCCEEDED' THEN 'useful' WHEN 'FAILED' THEN 'failed' WHEN 'LOST' THEN 'lost'
                            ELSE 'cancelled' END AS kind,
               sum(round(extract(epoch FROM closed_at - COALESCE(accepted_at, claimed_at)) * 1000)) / 1000 AS s
          FROM attempts GROUP BY 1"""
    async with engine.begin() as session:
        used = {row.kind: float(row.s) for row in await session.rows(statement)}
        wait = (
            "SELECT round(sum(extract(epoch FROM started_at - created_at)), 3) FROM tasks WHERE task_id = 'completed'"
        )
        assert await session.scalar(wait) <= found.histograms["wait"]["1"].sum_s + 0.001
    assert found.gpu_seconds == pytest.approx(used)


async def test_it_counts_once_however_often_and_by_whom_it_is_added_up(database: Database, engine: Sessions) -> None:
    async with engine.begin() as session:
        await some_lives(session)
    found = await added_up(database, 6)
    await asyncio.gather(*(database.run(measures.add_up) for _ in range(5)))
    assert await database.run(measures.read) == found

    async def cut_off(connection: Connection) -> None:
        await measures.add_up(connection)
        raise asyncio.CancelledError

    async with engine.begin() as session:
        await Life(session).create("one more", 7)
        await end_task.end(session, "one more", CANCEL)
    with pytest.raises(asyncio.CancelledError):
        await database.run(cut_off)
    assert (await added_up(database, 7)).ended["7", "CANCELLED"] == 2
    await database.run(measures.add_up)
    assert (await database.run(measures.read)).ended["7", "CANCELLED"] == 2


async def test_a_page_at_a_time_finds_the_same(
    database: Database, engine: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "_ADD", measures._ADD.replace(f"LIMIT {measures.PAGE}", "LIMIT 1"))
    async with engine.begin() as session:
        await some_lives(session)
    for _ in range(60):
        await database.run(measures.add_up)
    assert sum((await added_up(database, 6)).ended.values()) == 6


async def test_it_does_not_fall_when_tasks_are_forgotten(database: Database, engine: Sessions) -> None:
    async with engine.begin() as session:
        await some_lives(session)
    found = await added_up(database, 6)
    async with engine.begin() as session:
        await session.execute("TRUNCATE outbox_ends")
        await session.execute("UPDATE attempts SET released_at = clock_timestamp()")
    assert await database.run(lambda c: forget.tasks(c, timedelta(0))) == 6
    await database.run(measures.add_up)
    assert await database.run(measures.read) == found


async def test_another_log_is_added_up_from_its_beginning(database: Database, engine: Sessions) -> None:
    async with engine.begin() as session:
        await some_lives(session)
    await added_up(database, 6)
    async with engine.begin() as session:  # as docs/operations.md says after a restore
        await session.execute("DELETE FROM event_log")
        await session.execute("UPDATE event_log_state SET epoch = gen_random_uuid(), cut_xid = 0, cut_id = 0")
        await Life(session).create("after", 7)
        await end_task.end(session, "after", CANCEL)
    assert (await added_up(database, 7)).ended["7", "CANCELLED"] == 2


async def test_invented_types_share_a_label(
    database: Database, engine: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "MOST_TYPES", 2)
    async with engine.begin() as session:
        life = Life(session)
        await life.node("n1", [9])
    for number, kinds in ((1, (5,)), (6, (5, 6, 7, 8, 9))):  # one that is known takes no other's place
        async with engine.begin() as session:
            life = Life(session)
            for kind in kinds:
                await life.create(f"t{kind}_{number}", kind)
                assert (await end_task.end(session, f"t{kind}_{number}", CANCEL)).changed
        ended = (await added_up(database, number)).ended
    assert ended == {("5", "CANCELLED"): 2, ("6", "CANCELLED"): 1, ("9", "CANCELLED"): 1, ("other", "CANCELLED"): 2}


class Watched(Connection):
    """Notes which tables each statement reads in whole."""

    def __init__(self, session: Session) -> None:
        super().__init__(session._opened, session.policy)
        self.scanned: set[str] = set()

    async def _executed(self, factory, statement, parameters):
        if not statement.startswith("EXPLAIN"):
            for line in await self.all(str, f"EXPLAIN {statement}", parameters or {}):
                self.scanned |= {table for table in LARGE if f"Seq Scan on {table}" in line}
        return await super()._executed(factory, statement, parameters)


async def test_a_scrape_reads_no_large_table_in_whole(database: Database, connection: Session) -> None:
    await rows.node(connection, "g", max_concurrent_tasks=4)
    for statement in (MANY, CLOSED, "ANALYZE tasks", "ANALYZE attempts", "ANALYZE counters"):
        await connection.execute(statement)
    watched = Watched(connection)
    found = await fleet.read(watched, 15.0)
    assert watched.scanned == set()
    text = exposition.text(found.families()).decode()
    assert 'gpuo_tasks{status="QUEUED",type="2"} 5000.0' in text
    assert 'gpuo_slots{state="free"} 4.0' in text
    assert found.oldest_s[2] == pytest.approx(3600, abs=60)
    claimed = """
        UPDATE tasks SET waiting_since = NULL
         WHERE display_id IN (SELECT display_id FROM tasks WHERE task_type = 2 AND status = 'QUEUED'
                               ORDER BY display_id LIMIT 30)"""
    await connection.execute(claimed)
    assert (await oldest.oldest(connection, [2]))[2].waited_s == pytest.approx(3600, abs=60)


async def test_types_that_share_a_label_wait_too(connection: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MOST_TYPES", 2)
    for task_type, tasks in ((1, 3), (2, 3), (3, 1)):
        for number in range(tasks):
            since = rows.Sql(f"clock_timestamp() - interval '{task_type} h'")
            await rows.task(connection, f"{task_type}_{number}", task_type=task_type, waiting_since=since)
    text = exposition.text((await fleet.read(connection, 15.0)).families()).decode()
    (waited,) = re.findall(r'gpuo_queue_oldest_seconds\{type="other"\} ([0-9.]+)', text)
    assert float(waited) == pytest.approx(3 * 3600, abs=60)


async def test_a_node_on_probation_has_one_free_slot(connection: Session) -> None:
    await rows.node(connection, "probed", max_concurrent_tasks=8)
    await connection.execute("UPDATE gpus SET rests = 1, task_failure_count = 3")
    slots = usage.by_state(await usage.nodes(connection))
    assert {state: n for state, n in slots.items() if n} == {"free": 1, "resting": 7}


async def test_a_page_counts_the_slots_of_nodes_that_take_work(life: Life) -> None:
    """The fleet and its types agree: none of a node that drains, one of a node that runs probes."""
    for gpu_id, slots in (("drains", 3), ("probed", 4), ("other", 2)):
        await life.node(gpu_id, [1], slots=slots)
        for number in range(2):
            await life.create(f"{gpu_id} {number}", claims_slot=True)
    await life.do("UPDATE gpus SET drained_at = clock_timestamp() WHERE gpu_id = 'drains'")
    await life.do("UPDATE gpus SET rests = 1 WHERE gpu_id = 'probed'")
    counted = usage.Slots(slots=3, used=1 + await life.scalar("SELECT count(*) FROM attempts WHERE gpu_id = 'other'"))
    nodes = await usage.nodes(life.connection)
    assert usage.of_fleet(nodes) == counted
    assert usage.by_type(nodes) == {1: counted}


async def test_the_oldest_has_waited_longest_not_lived_longest(connection: Session) -> None:
    """A retry waits again; between its attempts it waits for nothing."""
    for task_id, minutes in (("retried", 1), ("waits", 9), ("new", 5)):
        since = rows.Sql(f"clock_timestamp() - interval '{minutes} min'")
        await rows.task(connection, task_id, task_type=2, waiting_since=since)
    await rows.task(connection, "rests", task_type=3)
    found = await oldest.oldest(connection, [2, 3])
    assert (found[2].task_id, list(found)) == ("waits", [2])
    assert found[2].waited_s == pytest.approx(540, abs=60)


async def test_a_plan_for_any_place_reads_no_large_table_in_whole(connection: Session) -> None:
    """Postgres makes one after some executions, without the values of the parameters."""
    events = """
        INSERT INTO event_log (xid, type, task_id, data) SELECT n, 'task.started', 't' || n, '{}'
          FROM generate_series(1, 20000) n"""
    for statement in (MANY, CLOSED, events, STEPS, "ANALYZE"):
        await connection.execute(statement)
    for statement in (measures._NEXT, measures._ADD, oldest._OLDEST):
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)  # noqa: B023
        plan = await connection.all(str, f"EXPLAIN (GENERIC_PLAN) {numbered}")
        scanned = [line for line in plan for table in LARGE if f"Seq Scan on {table}" in line]
        assert not scanned, "\n".join(plan)
