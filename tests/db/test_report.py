"""Which attempt a report means, what is kept of those that come too late, and one that crosses the attempt's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from infra.db import locks
from infra.db.attempts import late_reports
from infra.db.attempts.late_reports import LATE_BYTES
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.transactions import report as reports
from infra.db.transactions import settle_attempt
from infra.db.transactions.report import Report, ReportOutcome, StatusReport
from infra.json.off_loop import off_loop
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Session
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ConflictingResult, LateReport, NotTheHolder
from workflows.domain.task import TaskStatus

FIRST_TYPE, SECOND_TYPE = 8101, 8102
WAITS_FOR_A_ROW = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype IN ('transactionid', 'tuple') AND NOT granted AND datname = current_database()"
)


async def says_result(connection: Connection, report: Report) -> ReportOutcome:
    return await reports.result(connection, report, "{}")


async def says_failed(connection: Connection, report: Report) -> ReportOutcome:
    return await reports.status(connection, report, StatusReport(TaskStatus.FAILED))


async def says_processing(connection: Connection, report: Report) -> ReportOutcome:
    return await reports.status(connection, report, StatusReport(TaskStatus.PROCESSING, progress=50))


@pytest.mark.parametrize("says", [says_result, says_failed, says_processing])
async def test_it_is_late_and_waits_for_no_release(database: Database, says) -> None:
    """The node has a new type, whose lock is held by a transaction that waits for the node's row in turn."""
    task_id = f"reported-{says.__name__}"
    settled, held, committed, answered = (asyncio.Event() for _ in range(4))

    async def prepare(connection: Connection) -> None:
        await rows.node(connection, task_id, task_types=[FIRST_TYPE])
        await rows.task(connection, task_id, task_type=FIRST_TYPE, attempts=1)
        await rows.attempt(connection, task_id, gpu_id=task_id)

    async def settle(connection: Connection) -> None:
        await settle_attempt.settle(connection, task_id, 1, End(Outcome.TIMED_OUT), actor="test")
        types = {"types": [FIRST_TYPE, SECOND_TYPE], "gpu_id": task_id}
        await connection.execute("UPDATE gpus SET task_types = %(types)s WHERE gpu_id = %(gpu_id)s", types)
        settled.set()
        await committed.wait()

    async def hold_second_type(connection: Connection) -> None:
        await locks.type_exclusively(connection, SECOND_TYPE)
        held.set()
        await answered.wait()

    async def waits() -> bool:
        return await database.run(lambda c: c.one(int, WAITS_FOR_A_ROW)) > 0

    await database.run(prepare)
    settling = asyncio.create_task(database.run(settle))
    await settled.wait()
    holding = asyncio.create_task(database.run(hold_second_type))
    await held.wait()
    report = Report(task_id, f"{task_id}-1", None, None)
    reporting = asyncio.create_task(database.run(lambda c: says(c, report)))
    try:
        await eventually(waits, within=5)
        committed.set()
        heard = await asyncio.wait_for(reporting, 4)
    finally:
        committed.set()
        answered.set()
        await asyncio.gather(settling, holding)
    assert isinstance(heard.refusal, LateReport)
    late = "SELECT count(*) FROM late_reports WHERE task_id = %(task_id)s"
    assert await database.run(lambda c: c.one(int, late, {"task_id": task_id})) == 1


async def attempt_of(connection: Connection, number: int, gpu_id: str, outcome: Outcome | None = None) -> None:
    closed = {"outcome": outcome, "closed_at": rows.NOW} if outcome else {}
    await rows.attempt(connection, "t", attempt=number, gpu_id=gpu_id, token=f"token-{number}", **closed)


@pytest.fixture
async def fleet(life: Life) -> Session:
    """The nodes a and b of one key, c of another, and a task that has run on nobody yet."""
    for gpu_id, lineage in (("a", "k"), ("b", "k"), ("c", "other")):
        await rows.node(life.connection, gpu_id, lineage=lineage, max_concurrent_tasks=2)
    await rows.task(life.connection, "t", attempts=2)
    return life.connection


WITHOUT_TOKEN = [
    # the gpuId that it names, the node that holds the open attempt, who held an earlier one, whether it counts
    (None, "a", None, True),
    ("a", "a", None, True),
    ("a", "a", "c", True),
    (None, "a", "c", True),
    (None, "a", "b", False),
    ("a", "a", "b", False),
    ("b", "a", "b", False),
    (None, "a", "a", False),
    ("a", "a", "a", False),
    ("a", None, "a", False),
    (None, None, "a", False),
]


@pytest.mark.parametrize("lineage", ["k", None])
@pytest.mark.parametrize("says", [says_result, says_failed, says_processing])
@pytest.mark.parametrize(("names", "holder", "earlier", "counts"), WITHOUT_TOKEN)
async def test_without_a_token_it_counts_only_for_the_only_attempt_of_the_key(
    fleet: Session, says, lineage, names, holder, earlier, counts
) -> None:
    if earlier:
        await attempt_of(fleet, 1, earlier, Outcome.LOST)
    if holder:
        await attempt_of(fleet, 2, holder)
    heard = await says(fleet, Report("t", None, names, lineage))
    counts = counts and not (lineage is None and earlier)  # an administrator's key may have held any attempt
    assert (heard.refusal is None) is counts
    assert isinstance(heard.refusal, LateReport | None)
    late = await fleet.one(int, "SELECT count(*) FROM late_reports")
    changed = "SELECT count(*) FROM attempts WHERE attempt = 2 AND (closed_at IS NOT NULL OR progress = 50)"
    assert (late, await fleet.one(int, changed)) == ((0, 1) if counts else (1, 0))


async def test_without_a_token_the_same_result_is_answered_the_same_twice(fleet: Session) -> None:
    await attempt_of(fleet, 2, "a")
    report = Report("t", None, None, "k")
    assert [(await says_result(fleet, report)).refusal for _ in range(2)] == [None, None]


@pytest.mark.parametrize(("rejected", "outcome"), [(True, Outcome.REJECTED), (False, Outcome.FAILED)])
async def test_work_that_rejects_its_input_says_so_as_often_as_it_likes(fleet: Session, rejected, outcome) -> None:
    await attempt_of(fleet, 2, "a")
    report = Report("t", "token-2", "a", "k")
    said = StatusReport(TaskStatus.FAILED, "no face", rejected=rejected)
    assert [(await reports.status(fleet, report, said)).refusal for _ in range(2)] == [None, None]
    found = await fleet.rows("SELECT outcome, reason FROM attempts WHERE attempt = 2")
    assert found == [(outcome, "no face")]
    other = await reports.status(fleet, report, StatusReport(TaskStatus.FAILED, rejected=not rejected))
    assert isinstance(other.refusal, LateReport)


@pytest.mark.parametrize(("message", "reason"), [("任务开始执行", "任务开始执行"), ("", None), (None, None)])
async def test_words_of_the_start_are_in_the_timeline(fleet: Session, message, reason) -> None:
    await attempt_of(fleet, 2, "a")
    for said in (message, "again"):
        await reports.status(fleet, Report("t", "token-2", "a", "k"), StatusReport(TaskStatus.PROCESSING, said))
    started = "SELECT from_status, to_status, actor, reason FROM task_events WHERE task_id = 't'"
    assert await fleet.rows(started) == [("QUEUED", "PROCESSING", "gpu:a", reason)]


OPEN_TRANSACTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
)


async def test_no_transaction_is_open_while_results_are_compared(database: Database, monkeypatch) -> None:
    task_id, given = "compared", "[1, 2]"
    compared: list[int] = []

    async def prepare(connection: Connection) -> None:
        await rows.node(connection, task_id, task_types=[FIRST_TYPE])
        await rows.task(connection, task_id, task_type=FIRST_TYPE, attempts=1)
        await rows.attempt(connection, task_id, gpu_id=task_id)

    async def compare(_: int, work: Callable[[], bool]) -> bool:
        compared.append(await database.single(lambda c: c.one(int, OPEN_TRANSACTIONS)))
        return work()

    await database.run(prepare)
    monkeypatch.setattr(off_loop, "run", compare)
    report = Report(task_id, f"{task_id}-1", None, None)
    heard = [await reports.take_result(database, report, one) for one in (given, given, "[1,2]", "[2]", "[2]")]
    assert [type(one.refusal) for one in heard] == [type(None)] * 3 + [ConflictingResult] * 2
    assert compared == [0, 0, 0]
    late = "SELECT body FROM late_reports WHERE task_id = 'compared'"
    assert await database.run(lambda c: c.all(str, late)) == ["[2]"]


@pytest.mark.parametrize("names", [None, "a", "b", "c"])
async def test_it_is_refused_where_the_key_has_not_held_the_task(fleet: Session, names) -> None:
    await attempt_of(fleet, 2, "c")
    for token in (None, "token-2"):
        with pytest.raises(NotTheHolder):
            await says_result(fleet, Report("t", token, names, "k"))


async def test_with_its_token_the_second_attempt_of_a_key_counts(fleet: Session) -> None:
    await attempt_of(fleet, 1, "a", Outcome.LOST)
    await attempt_of(fleet, 2, "b")
    stale = await says_result(fleet, Report("t", "token-1", None, "k"))
    assert isinstance(stale.refusal, LateReport)
    assert (await says_result(fleet, Report("t", "token-2", None, "k"))).refusal is None


@pytest.mark.parametrize(
    ("body", "kept"),
    [("short", "short"), ("x" * LATE_BYTES, "x" * LATE_BYTES), ("x" * (1 << 20), "x" * LATE_BYTES),
     ("xx" + "密" * LATE_BYTES, "xx" + "密" * (LATE_BYTES // 3 - 1)), ("", "")],
    ids=["short", "just", "long", "characters", "empty"],
)  # fmt: skip
async def test_the_first_late_report_of_each_attempt_and_kind_is_kept(fleet: Session, body, kept) -> None:
    for number in (1, 2):
        await attempt_of(fleet, number, "a", Outcome.LOST)
    for attempt in (1, 2, None):
        for kind in ("result", "FAILED"):
            for text_of in (body, "another"):
                await late_reports.keep_late(fleet, "t", attempt, kind, text_of)
    found = await fleet.rows("SELECT attempt, kind, body FROM late_reports ORDER BY attempt, kind")
    assert found == [(n, kind, kept) for n in (1, 2, None) for kind in ("FAILED", "result")]


async def test_of_late_reports_at_once_one_is_kept(database: Database) -> None:
    await database.run(lambda c: rows.task(c, "late-at-once"))
    reports = [database.run(lambda c: late_reports.keep_late(c, "late-at-once", 1, "result", "{}")) for _ in range(12)]
    await asyncio.gather(*reports)
    late = "SELECT count(*) FROM late_reports WHERE task_id = 'late-at-once'"
    assert await database.run(lambda c: c.one(int, late)) == 1
