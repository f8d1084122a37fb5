"""Rows that are forgotten, and rows that stay."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from infra.db.ops import counters, event_log
from infra.db.repair import invariants, verify
from infra.db.session import Database
from infra.db.tasks import lists as task_lists
from infra.db.tasks import queries as task_queries
from infra.db.tasks.filters import TaskFilter
from infra.db.transactions import cancel_task, forget, node_state
from infra.db.transactions import report as reports
from infra.db.transactions.report import Report, StatusReport
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Sessions
from workflows.domain.errors import LateReport
from workflows.domain.task import TaskStatus

DAY = timedelta(days=1)
TABLES = ("tasks", "attempts", "task_events", "task_results", "late_reports", "outbox")


async def two_days_ago(life: Life, like: str = "%") -> None:
    await life.do(
        "UPDATE tasks SET created_at = created_at - interval '2 d', started_at = started_at - interval '2 d',"
        " completed_at = completed_at - interval '2 d' WHERE task_id LIKE %(like)s",
        like=like,
    )


async def count(life: Life, table: str) -> int:
    return int(await life.scalar(f"SELECT count(*) FROM {table}"))


async def finished(life: Life, *task_ids: str) -> None:
    """Tasks that have completed on node `n`, which had a slot for each."""
    for task_id in task_ids:
        await life.create(task_id, claims_slot=True)
        await life.end(task_id)


@pytest.fixture
async def busy(life: Life) -> Life:
    await life.node("n", [1])
    return life


async def test_an_old_task_goes_with_all_that_is_its(busy: Life) -> None:
    await finished(busy, "old")
    await busy.do("INSERT INTO late_reports (task_id, attempt, kind, body) VALUES ('old', 1, 'result', '{}')")
    await two_days_ago(busy)
    assert await forget.tasks(busy.connection, DAY) == 1
    assert {table: await count(busy, table) for table in TABLES} == dict.fromkeys(TABLES, 0)
    for user_id, gpu_id in product((None, "u"), (None, "n")):
        kinds = await counters.tasks_by_kind(busy.connection, user_id=user_id, gpu_id=gpu_id)
        assert sum(kinds.values()) == 0
    assert await forget.tasks(busy.connection, DAY) == 0


async def test_what_is_young_or_has_not_ended_stays(busy: Life) -> None:
    await finished(busy, "young")
    await busy.create("running", claims_slot=True)
    await busy.create("waiting")
    await busy.do("UPDATE tasks SET created_at = created_at - interval '9 d' WHERE completed_at IS NULL")
    assert await forget.tasks(busy.connection, DAY) == await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 0
    assert await count(busy, "tasks") == 3


async def test_what_a_workflow_or_a_node_is_still_to_hear_of_stays(busy: Life) -> None:
    await busy.create("cancelled", claims_slot=True)
    await cancel_task.cancel(busy.connection, rows.CREATOR, "cancelled", None)
    await two_days_ago(busy)
    assert await forget.tasks(busy.connection, DAY) == 0  # its workflow has not been notified
    await busy.do("DELETE FROM outbox_ends")
    assert await forget.tasks(busy.connection, DAY) == 0  # its node may still run it
    await busy.do("UPDATE attempts SET released_at = clock_timestamp()")
    assert await forget.tasks(busy.connection, DAY) == 1


async def test_the_oldest_go_first_a_page_at_a_time(busy: Life) -> None:
    await finished(busy, "a", "b", "c")
    for days, task_id in enumerate(("b", "c", "a"), 2):
        await busy.do(
            "UPDATE tasks SET completed_at = completed_at - make_interval(days => %(d)s) WHERE task_id = %(t)s",
            d=days,
            t=task_id,
        )
    assert await forget.tasks(busy.connection, DAY, 2) == 2
    assert await busy.scalar("SELECT task_id FROM tasks") == "b"
    assert await forget.tasks(busy.connection, DAY, 2) == 1


async def test_a_forgotten_payload_is_null_and_the_task_says_so(busy: Life) -> None:
    await finished(busy, "old")
    await busy.do("INSERT INTO late_reports (task_id, attempt, kind, body) VALUES ('old', 1, 'result', '{}')")
    before = await task_queries.get(busy.connection, "old")
    assert before is not None
    assert (before.payload, before.result, before.purged) == ("{}", "{}", False)
    await two_days_ago(busy)
    assert await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 1
    after = await task_queries.get(busy.connection, "old")
    assert after is not None
    assert (after.payload, after.result, after.purged) == (None, None, True)
    assert await count(busy, "late_reports") == 0
    assert await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 0
    (listed,), total = await task_lists.page(busy.connection, TaskFilter(), limit=10, offset=0, room=1000)
    assert (listed.payload, listed.has_result, listed.purged, total) == (None, False, True, 1)


@pytest.mark.parametrize("repeated", ["{}", '{"other": 1}', "null"])
async def test_a_result_that_is_forgotten_may_be_repeated_and_is_not_kept_again(busy: Life, repeated: str) -> None:
    await finished(busy, "old")
    await two_days_ago(busy)
    assert await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 1
    token = await busy.scalar("SELECT token FROM attempts WHERE task_id = 'old'")
    heard = await reports.result(busy.connection, Report("old", token, "n", "k"), repeated)
    assert (heard.refusal, heard.known) == (None, None)
    failed = await reports.status(
        busy.connection, Report("old", token, "n", "k"), StatusReport(TaskStatus.FAILED, "personal")
    )
    assert isinstance(failed.refusal, LateReport)
    assert await count(busy, "late_reports") == 0


async def test_a_task_that_is_forgotten_whole_is_not_purged_before(busy: Life) -> None:
    await finished(busy, "old")
    await two_days_ago(busy)
    assert await forget.payloads(busy.connection, DAY / 2, whole=DAY) == 0
    assert await forget.tasks(busy.connection, DAY) == 1


async def test_the_invariants_hold_after_forgetting(busy: Life) -> None:
    await finished(busy, "purged", "young")
    await two_days_ago(busy, "purged")
    assert await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 1
    for check in (*invariants.ALWAYS, invariants.NOTHING_IN_FLIGHT):
        assert (await verify.find(busy.connection, check)).violations == 0, check.name


async def test_alerts_and_audit_entries_go_by_their_age(life: Life) -> None:
    await life.do(
        "INSERT INTO alerts (dedupe_key, cause, title, message, level, source, raised_at)"
        " SELECT i::text, 'c', 't', 'm', 'INFO', 's', clock_timestamp() - make_interval(days => 4 - i)"
        " FROM generate_series(1, 4) i"
    )
    await life.do(
        "INSERT INTO audit_log (owner, action, subject, detail, outcome, at)"
        " SELECT 'o', 'a', 's', i::text, 'DONE', clock_timestamp() - make_interval(days => 4 - i)"
        " FROM generate_series(1, 4) i"
    )
    for forget_page, table in ((forget.alerts, "alerts"), (forget.audit, "audit_log")):
        assert await forget_page(life.connection, 1.5 * DAY, 1) == 1
        assert await forget_page(life.connection, 1.5 * DAY) == 1
        assert await forget_page(life.connection, 1.5 * DAY) == 0
        assert await count(life, table) == 2
    assert sum((await counters.read(life.connection)).alerts.values()) == 2


async def test_what_is_old_is_found_behind_what_is_younger(life: Life) -> None:
    """The number says nothing about the age where a clock was set back, or where rows were restored."""
    ages = "CASE WHEN i = 9 THEN 4 ELSE 0 END"
    await life.do(
        "INSERT INTO alerts (dedupe_key, cause, title, message, level, source, raised_at)"
        f" SELECT i::text, 'c', 't', 'm', 'INFO', 's', clock_timestamp() - make_interval(days => {ages})"
        " FROM generate_series(1, 9) i"
    )
    await life.do(
        "INSERT INTO audit_log (owner, action, subject, detail, outcome, at)"
        f" SELECT 'o', 'a', 's', i::text, 'DONE', clock_timestamp() - make_interval(days => {ages})"
        " FROM generate_series(1, 9) i"
    )
    for number in range(9):
        await delivery(life, f"DEAD {number}", days=4 if number == 8 else 0)
    assert await forget.alerts(life.connection, DAY, 2) == 1
    assert await forget.audit(life.connection, DAY, 2) == 1
    assert await forget.deliveries(life.connection, DAY, 2, pending=9 * DAY) == 1
    assert {table: await count(life, table) for table in ("alerts", "audit_log", "deliveries")} == {
        "alerts": 8, "audit_log": 8, "deliveries": 8,
    }  # fmt: skip


@pytest.mark.parametrize(("statement", "index"), [
    (forget._OLD_TASKS, "ix_tasks_ended"),
    (forget._OLD_PAYLOADS, "ix_tasks_unpurged"),
    (forget._AUDIT, "ix_audit_log_at"),
    (forget._ALERTS, "ix_alerts_raised_at"),
    (forget._DELIVERIES, "ix_deliveries_created_at"),
])  # fmt: skip
async def test_what_is_old_is_read_from_an_index(life: Life, statement: str, index: str) -> None:
    await life.do("SET LOCAL enable_seqscan = off")  # the tables are empty
    values = {"period": DAY, "whole": DAY, "pending": DAY, "page": 50}
    plan = "\n".join(await life.connection.all(str, f"EXPLAIN {statement}", values))
    assert index in plan


async def gone(life: Life, gpu_id: str, *, days: float = 2) -> None:
    await life.node(gpu_id, [1])
    await node_state.deregister(life.connection, gpu_id)
    await life.do(
        "UPDATE gpus SET gone_at = gone_at - make_interval(secs => %(s)s) WHERE gpu_id = %(g)s",
        s=days * 86_400,
        g=gpu_id,
    )


async def test_a_node_that_is_long_gone_is_forgotten_and_its_epochs_never_come_again(life: Life) -> None:
    await life.node("old", [1])
    await life.node("old", [1])
    await gone(life, "old")
    await life.node("there", [1])
    await gone(life, "just_gone", days=0)
    assert await forget.nodes(life.connection, DAY) == 0  # its epoch is remembered first
    assert await forget.nodes(life.connection, DAY) == 1
    assert await count(life, "gpus") == 2
    assert await life.scalar("SELECT count(*) FROM gpu_beats WHERE gpu_id = 'old'") == 0
    await life.node("old", [1])
    assert await life.scalar("SELECT epoch FROM gpus WHERE gpu_id = 'old'") == 4
    await life.node("new", [1])
    assert await life.scalar("SELECT epoch FROM gpus WHERE gpu_id = 'new'") == 4


async def test_a_fault_and_a_drain_outlive_the_node(life: Life) -> None:
    for gpu_id, change in (("faulty", "status = 'FAULTY'"), ("drained", "drained_at = clock_timestamp()")):
        await gone(life, gpu_id)
        await life.do(f"UPDATE gpus SET {change} WHERE gpu_id = '{gpu_id}'")
    for _ in range(2):
        assert await forget.nodes(life.connection, DAY) == 0


async def test_events_go_in_the_order_of_their_log_and_leave_no_hole(database: Database, engine: Sessions) -> None:
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
        await connection.execute("UPDATE event_log_state SET cut_xid = 0, cut_id = 0")
        await connection.execute(
            "INSERT INTO event_log (xid, type, task_id, data, at) SELECT i, 'task.created', i::text, '{}',"
            " clock_timestamp() - make_interval(days => CASE i WHEN 4 THEN 0 ELSE 9 END) FROM generate_series(1, 6) i"
        )
    consumer = (await database.single(lambda c: event_log.read(c, None, limit=1))).until
    assert [await database.run(lambda c: forget.events(c, DAY, 2)) for _ in range(3)] == [2, 1, 0]
    page = await database.single(lambda c: event_log.read(c, consumer))
    assert page.is_reset
    assert [event.task_id for event in page.events] == ["4", "5", "6"]
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


DATED = """
    INSERT INTO event_log (xid, type, task_id, data, at)
    SELECT i, 'task.created', i::text, '{}', clock_timestamp() + make_interval(days => days)
      FROM unnest(CAST(%(days)s AS int[])) WITH ORDINALITY AS dated (days, i)
    """


@pytest.mark.parametrize(
    ("days", "cut"),
    [
        ([-9, 9, 9, -9, 0, -9], [2, 2, 0]),
        ([9, 9, 9, -9, -9], [2, 2, 1]),
        ([9, 9, 9, 0, -9], [0]),
        ([-9, 9, 9], [1, 0]),
        ([9], [0]),
    ],
)
async def test_an_event_in_the_future_is_as_old_as_the_next_one(
    database: Database, engine: Sessions, days: list[int], cut: list[int]
) -> None:
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
        await connection.execute(DATED, {"days": days})
    assert [await database.run(lambda c: forget.events(c, DAY, 2)) for _ in cut] == cut
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


async def delivery(life: Life, name: str, *, days: int, task_id: str | None = None) -> None:
    """One in the state that is the first part of its name."""
    await life.do(
        "INSERT INTO deliveries (webhook_id, event_id, body, task_id, state, next_try_at, created_at)"
        " SELECT 'w', %(name)s, '{}', %(task_id)s, state, CASE WHEN state = 'PENDING' THEN clock_timestamp() END,"
        " clock_timestamp() - make_interval(days => %(days)s) FROM split_part(%(name)s, ' ', 1) AS state",
        name=name, task_id=task_id, days=days,
    )  # fmt: skip


async def test_a_delivery_that_is_still_to_be_sent_stays(busy: Life) -> None:
    await finished(busy, "old")
    for state in ("PENDING", "DELIVERED", "DEAD"):
        await delivery(busy, f"{state} of a task", days=2, task_id="old")
        await delivery(busy, f"{state} old", days=2)
        await delivery(busy, f"{state} older", days=4)
    await delivery(busy, "DEAD young", days=0)
    await two_days_ago(busy)

    async def left() -> set[str]:
        return set(await busy.connection.all(str, "SELECT event_id FROM deliveries"))

    assert await forget.payloads(busy.connection, DAY, whole=9 * DAY) == 1
    assert {one for one in await left() if one.endswith("task")} == {"PENDING of a task"}
    pages = [await forget.deliveries(busy.connection, DAY, 2, pending=3 * DAY) for _ in range(4)]
    assert pages == [2, 2, 1, 0]
    assert await left() == {"PENDING of a task", "PENDING old", "DEAD young"}
    assert await forget.tasks(busy.connection, DAY) == 1
    assert await left() == {"PENDING old", "DEAD young"}


async def test_bulk_operations_that_have_ended(life: Life) -> None:
    for name, state, days in (("old", "DONE", 2), ("young", "DONE", 0), ("running", "RUNNING", 2)):
        await life.do(
            "INSERT INTO operations (operation_id, kind, filter, key_id, owner, role, lineage, grants, request_hash,"
            " asked_at, bound, matched, state, completed_at)"
            " SELECT %(name)s, 'CANCEL', '{}', 'k', 'o', 'user', 'k', '{}', 'h', at, 1, 1, %(state)s,"
            " CASE WHEN %(state)s = 'DONE' THEN at END"
            " FROM (SELECT clock_timestamp() - make_interval(days => %(days)s)) a (at)",
            name=name, state=state, days=days,
        )  # fmt: skip
    assert await forget.operations(life.connection, DAY) == 1
    assert await count(life, "operations") == 2
