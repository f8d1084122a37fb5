"""Kept counts that differ from the rows are corrected, and a concurrent change is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.db.ops import counters, event_log
from infra.db.ops.counters import Counts
from infra.db.session import Database
from infra.db.tasks import transitions as task_transitions
from infra.db.tasks.transitions import Cause
from tests.conftest import eventually
from tests.db import rows
from tests.db.sessions import Sessions
from workflows.domain.event import EventType

EMPTY = "TRUNCATE tasks, attempts, task_results, late_reports, task_events, gpus, alerts, counters, counter_deltas"


@pytest.fixture
async def database(engine: Sessions, database: Database) -> AsyncIterator[Database]:
    """Empty before and after."""
    async with engine.begin() as connection:
        await connection.execute(EMPTY)
    yield database
    async with engine.begin() as connection:
        await connection.execute(EMPTY)


async def counts(database: Database) -> Counts:
    return await database.run(counters.read)


async def some_rows(connection) -> None:
    for number in range(6):
        await rows.task(connection, f"t{number}", task_type=number % 2)
    await rows.task(connection, "p")
    await task_transitions.start(connection, Cause("p", 1, "g", "test", None), 0.0)
    await rows.node(connection, "g")


async def test_what_is_right_is_left_alone(database):
    await database.run(some_rows)
    assert await database.run(counters.recount) == []
    await database.run(counters.fold)
    assert await database.run(counters.recount) == []


async def test_deleted_rows_and_a_wrong_count_are_found(database):
    await database.run(some_rows)
    right = await counts(database)
    await database.run(counters.fold)
    await database.run(lambda c: c.execute("UPDATE counters SET n = n + 7 WHERE counter <> 'alerts'"))
    await database.run(lambda c: c.execute("DELETE FROM counters WHERE key = '0 QUEUED'"))
    wrong = await database.run(counters.recount)
    assert sorted(wrong) == ["gpu:g 1 PROCESSING: -7", "gpus ACTIVE: -7",
                             "sum:gpu:g PROCESSING: -7", "sum:tasks PROCESSING: -7", "sum:tasks QUEUED: -7",
                             "sum:user:u PROCESSING: -7", "sum:user:u QUEUED: -7",
                             "sum:user_gpu:1:u g PROCESSING: -7", "tasks 0 QUEUED: +3",
                             "tasks 1 PROCESSING: -7", "tasks 1 QUEUED: -7", "user:u 0 QUEUED: +3",
                             "user:u 1 PROCESSING: -7", "user:u 1 QUEUED: -7",
                             "user_gpu:1:u g 1 PROCESSING: -7"]  # fmt: skip
    assert await counts(database) == right


async def test_what_was_deleted_without_triggers_is_found(database):
    await database.run(some_rows)

    async def delete(connection) -> None:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM tasks WHERE task_id = 't1'")

    await database.run(delete)
    assert sorted(await database.run(counters.recount)) == ["tasks 1 QUEUED: -1", "user:u 1 QUEUED: -1"]
    assert (await counts(database)).tasks == {(0, "QUEUED"): 3, (1, "QUEUED"): 2, (1, "PROCESSING"): 1}


@pytest.mark.parametrize("folded", [True, False])
async def test_what_is_deleted_is_not_counted_any_more(database, folded):
    async def fill(connection) -> None:
        await some_rows(connection)
        await rows.node(connection, "gone", gone_at=rows.NOW)
        await rows.task(connection, "of another", user_id="v")
        await connection.execute("UPDATE tasks SET gpu_id = 'h' WHERE user_id = 'v'")
        await connection.execute(
            "INSERT INTO alerts (dedupe_key, title, message, level, status, source)"
            " VALUES ('a', 't', 'm', 'WARNING', 'ACTIVE', 's'), ('b', 't', 'm', 'CRITICAL', 'ACTIVE', 's')"
        )

    await database.run(fill)
    if folded:
        await database.run(counters.fold)
    for statement in (
        "DELETE FROM tasks WHERE task_id IN ('t1', 't2', 'of another')",
        "DELETE FROM gpus WHERE gpu_id = 'gone'",
        "DELETE FROM alerts WHERE dedupe_key = 'a'",
        "DELETE FROM tasks WHERE false",
    ):
        await database.run(lambda c, statement=statement: c.execute(statement))
    assert await database.run(counters.recount) == []
    left = await counts(database)
    assert left.tasks == {(0, "QUEUED"): 2, (1, "QUEUED"): 2, (1, "PROCESSING"): 1}
    assert (left.gpus, left.alerts) == ({"ACTIVE": 1}, {("CRITICAL", "ACTIVE"): 1})
    assert await database.run(lambda c: counters.tasks_by_kind(c, user_id="v")) == {}
    await database.run(counters.fold)
    zeros = "SELECT counter FROM counters WHERE n = 0 OR counter ~ '[vh]'"
    assert await database.run(lambda c: c.all(str, zeros)) == []
    for table in ("task_events", "attempts", "tasks", "gpus", "alerts"):
        await database.run(lambda c, table=table: c.execute(f"DELETE FROM {table}"))
    await database.run(counters.fold)
    assert await database.run(lambda c: c.one(int, "SELECT count(*) FROM counters")) == 0


async def test_a_change_under_way_is_counted_once(database, engine):
    await database.run(some_rows)
    async with engine.begin() as other:
        await rows.task(other, "late", task_type=5)
        await task_transitions.start(other, Cause("t0", 1, "g", "test", None), 0.0)
        await database.run(lambda c: c.execute("UPDATE counters SET n = n + 7"))
        await database.run(counters.recount)
    assert (await counts(database)).tasks[5, "QUEUED"] == 1
    assert (await counts(database)).tasks[0, "PROCESSING"] == 1
    assert await database.run(counters.recount) == []


async def test_a_recount_is_due_when_the_last_one_is_paid_off(database):
    await database.run(lambda c: c.execute("DELETE FROM monitor_reports WHERE name = 'recount'"))
    assert await database.run(counters.recount_is_due)
    await database.run(counters.recount)
    took = "UPDATE monitor_reports SET body = '{\"took_s\": 0.3}' WHERE name = 'recount'"
    await database.run(lambda c: c.execute(took))
    assert not await database.run(counters.recount_is_due)
    earlier = "UPDATE monitor_reports SET at = at - interval '151 s' WHERE name = 'recount'"
    await database.run(lambda c: c.execute(earlier))
    assert await database.run(counters.recount_is_due)


async def test_two_that_fold_at_once_do_no_harm(database, engine):
    async with engine.begin() as other:
        await rows.task(other, "one", task_type=5)
        await counters.fold(other)
        await database.run(lambda c: rows.task(c, "two", task_type=5))
        second = asyncio.create_task(database.run(counters.fold))
        await eventually(lambda: database.run(lambda c: _waits_for_a_lock(c)))
    await second
    assert (await counts(database)).tasks == {(5, "QUEUED"): 2}


async def _waits_for_a_lock(connection) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'counter_deltas')"
    return await connection.one(bool, waiting)


async def test_counters_of_a_later_version_are_left_alone(database):
    await database.run(some_rows)
    await database.run(lambda c: c.execute("INSERT INTO counters VALUES ('later:u', 'x', 3)"))
    assert await database.run(counters.recount) == []


@pytest.mark.parametrize("folded", [True, False])
async def test_what_a_user_has_waiting_is_counted_over_all_types(database, folded):
    await database.run(some_rows)
    await database.run(lambda c: rows.task(c, "of another", user_id="v"))
    if folded:
        await database.run(counters.fold)
    assert await database.run(lambda c: counters.queued_of(c, ["u", "nobody", "v"])) == {"u": 6, "v": 1}


async def test_the_end_of_a_groups_last_task_is_logged_once(database):
    async def ends() -> list[tuple[str | None, dict[str, object]]]:
        await database.run(counters.fold)
        page = await database.single(lambda c: event_log.read(c, None, types=[EventType.GROUP_ENDED]))
        return [(event.user_id, event.data) for event in page.events]

    async def create(connection) -> None:
        for task_id, user_id in (("g1", "u: 1"), ("g2", "u: 1"), ("g3", "other")):
            await rows.task(connection, task_id, user_id=user_id, group_id="名 1")

    async def end(connection, *task_ids) -> None:
        await connection.execute(
            "UPDATE tasks SET status = 'FAILED', completed_at = clock_timestamp() WHERE task_id = ANY (%(ids)s)",
            {"ids": list(task_ids)},
        )

    await database.run(create)
    assert await ends() == []
    await database.run(lambda c: end(c, "g1"))
    assert await ends() == []
    await database.run(lambda c: end(c, "g2"))
    ended = [("u: 1", {"groupId": "名 1", "total": 2})]
    assert await ends() == await ends() == ended
    await database.run(lambda c: c.execute("DELETE FROM tasks WHERE task_id = 'g1'"))
    assert await ends() == ended
    await database.run(lambda c: rows.task(c, "g4", user_id="u: 1", group_id="名 1"))
    await database.run(lambda c: end(c, "g4"))
    assert await ends() == [*ended, *ended]
    await database.run(lambda c: rows.task(c, "g5", user_id="u: 1", group_id="名 1"))
    assert await ends() == [*ended, *ended]
    await database.run(lambda c: end(c, "g5"))
    await database.run(lambda c: c.execute("DELETE FROM tasks WHERE task_id = 'g2'"))  # forgotten in the same second
    assert await ends() == [*ended, *ended, *ended]
