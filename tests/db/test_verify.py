"""Each check of `gpu-orchestrator verify` finds the violation that was written by hand, and none in sound books."""

from __future__ import annotations

import pytest

from infra.db.nodes.queries import Registration
from infra.db.ops import alerts, counters
from infra.db.ops.alerts import NewAlert
from infra.db.repair import invariants, overdue, times, verify
from infra.db.repair.check import Check
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.outlook import Outlook
from infra.db.transactions import accept_attempt, claim_slot, collect_attempt, create_task, node_state, settle_attempt
from infra.settings import Settings
from tests.db.one_connection import OneConnection
from tests.db.rows import CREATOR, new_task
from tests.db.sessions import Session
from workers.verify import rows
from workflows.domain.alert import AlertLevel
from workflows.domain.attempt import End, Outcome

EVERYTHING = (
    "tasks, attempts, task_results, late_reports, task_events, gpus, gpu_beats, alerts, counters, counter_deltas,"
    " leader_lease, instances"
)
NO_CONSTRAINTS = """
    DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
                    WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'u') LOOP
            EXECUTE format('ALTER TABLE %%s DROP CONSTRAINT %%I CASCADE', one.name, one.conname);
        END LOOP;
        FOR one IN SELECT indexrelid::regclass AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND NOT i.indisprimary LOOP
            EXECUTE format('DROP INDEX %%s', one.name);
        END LOOP;
    END $$
"""
NO_KEY = "ALTER TABLE {0} DROP CONSTRAINT pk_{0} CASCADE"
LONG_AGO = "clock_timestamp() - interval '1 hour'"
AHEAD = "clock_timestamp() + interval '2 hours'"


class Books:
    """A few tasks in every state, written by the product's own functions."""

    def __init__(self, connection: Session) -> None:
        self.connection = connection

    async def write(self) -> None:
        await self.sql(f"TRUNCATE {EVERYTHING}")
        for gpu_id in ("g1", "g2"):
            node = Registration(gpu_id, "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 2, {}, None, "k")
            await node_state.register(self.connection, node)
        await self.ended("done", Outcome.SUCCEEDED)
        await self.ended("failed", Outcome.FAILED)
        await self.running("running")
        await self.sql("UPDATE gpus SET task_types = '{1, 2}'")
        await self.create("waiting", 3)
        await alerts.raise_alert(self.connection, NewAlert("a", "t", "m", AlertLevel.WARNING, "s"))
        await counters.fold(self.connection)
        await self.sql("INSERT INTO leader_lease VALUES ('leader', 'i', 1, clock_timestamp() + interval '1 h')")
        await self.sql(
            "INSERT INTO instances (instance_id, number, kind, hostname, pid, version, listening_since)"
            f" OVERRIDING SYSTEM VALUE VALUES ('i', 1, 'api', 'h', 1, '1', {LONG_AGO})"
        )

    async def sql(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    async def create(self, task_id: str, task_type: int = 1) -> None:
        task = new_task(task_id, task_type, max_retries=0, idempotency_key=task_id, request_hash=task_id)
        capacity = Capacity(Nodes(*[0] * 11), [1], [], 1.0)
        await create_task.create(self.connection, task, Outlook(capacity), weight=1.0, by=CREATOR)

    async def running(self, task_id: str) -> None:
        await self.create(task_id)

        assert (await claim_slot.claim(OneConnection(self.connection).run, task_id)).grant
        assert await accept_attempt.accept(self.connection, task_id, 1, actor="test")

    async def ended(self, task_id: str, outcome: Outcome) -> None:
        await self.running(task_id)
        result = '{"n":1}' if outcome is Outcome.SUCCEEDED else None
        await settle_attempt.settle(self.connection, task_id, 1, End(outcome, "r", result), actor="test")
        await collect_attempt.collect(self.connection, task_id, 1)


@pytest.fixture
async def books(connection: Session) -> Books:
    books = Books(connection)
    await books.write()
    return books


def test_every_check_has_its_violations():
    assert {check.name for check, *_ in VIOLATIONS} == {check.name for check in invariants.ALWAYS}


async def test_sound_books_hold(books: Books, connection: Session) -> None:
    snapshot = await reading(connection, settled=False)
    assert [finding for finding in snapshot.findings if finding.violations or not finding.rows] == []
    assert len(snapshot.findings) == len(invariants.ALWAYS) + 1
    assert {task_id: row.status for task_id, row in snapshot.tasks.items()} == {
        "done": "COMPLETED",
        "failed": "FAILED",
        "running": "PROCESSING",
        "waiting": "QUEUED",
    }


async def test_settled_books_have_nothing_in_flight(books: Books, connection: Session) -> None:
    (found,) = [one for one in (await reading(connection, settled=True)).findings if one.violations]
    assert found.examples == [
        "running is PROCESSING",
        "running-1 holds its slot",
        "waiting is QUEUED",
    ]


async def reading(connection: Session, *, settled: bool) -> rows.Snapshot:
    """All checks, without the snapshot: these rows are seen only by this transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "take_snapshot", lambda _: _nothing())
        return await rows.read(connection, Settings(), settled=settled, gpu_ids=["g1", "g2"])


async def _nothing() -> None:
    """Instead of SET TRANSACTION, which must come before any other statement."""


VIOLATIONS: list[tuple[Check, str, list[str]]] = [
    (
        invariants.ONE_TASK_PER_KEY,
        "done, running",
        ["UPDATE tasks SET idempotency_key = 'done' WHERE task_id = 'running'"],
    ),
    (
        invariants.ONE_TASK_PER_KEY,
        "displayId ",
        [
            "CREATE TABLE copied AS SELECT * FROM tasks WHERE task_id = 'done'",
            "UPDATE copied SET task_id = 'twin', idempotency_key = NULL",
            "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT * FROM copied",
        ],
    ),
    (
        invariants.LEGAL_EVENTS,
        "done #2: QUEUED to COMPLETED",
        ["UPDATE task_events SET to_status = 'COMPLETED' WHERE task_id = 'done' AND seq = 2"],
    ),
    (
        invariants.LEGAL_EVENTS,
        "running #2: PROCESSING to QUEUED",
        [
            "UPDATE task_events SET from_status = 'PROCESSING', to_status = 'QUEUED'"
            " WHERE task_id = 'running' AND seq = 2"
        ],
    ),
    (
        invariants.LEGAL_EVENTS,
        "waiting #1: - to QUEUED",
        ["UPDATE task_events SET actor = '' WHERE task_id = 'waiting'"],
    ),
    (invariants.WHOLE_HISTORY, "done", ["DELETE FROM task_events WHERE task_id = 'done' AND seq = 2"]),
    (invariants.WHOLE_HISTORY, "running", ["DELETE FROM task_events WHERE task_id = 'running'"]),
    (invariants.WHOLE_HISTORY, "failed", ["UPDATE tasks SET status = 'TIMEOUT' WHERE task_id = 'failed'"]),
    (invariants.ONE_RESULT, "done-1", ["UPDATE task_results SET gpu_id = 'elsewhere'"]),
    (invariants.ONE_RESULT, "failed-1", ["UPDATE task_results SET task_id = 'failed'"]),
    (invariants.ONE_RESULT, "done-1", ["DELETE FROM task_results"]),
    (invariants.ONE_RESULT, "done", ["INSERT INTO task_results SELECT * FROM task_results"]),
    (invariants.COMPLETED_WITH_RESULT, "done", ["DELETE FROM task_results"]),
    (invariants.COMPLETED_WITH_RESULT, "done", ["UPDATE tasks SET status = 'FAILED' WHERE task_id = 'done'"]),
    (
        invariants.DRAINED,
        "running-1 on g",
        [
            "UPDATE gpus SET drained_at = a.claimed_at - interval '1 s' FROM attempts a"
            " WHERE a.gpu_id = gpus.gpu_id AND a.task_id = 'running'"
        ],
    ),
    (
        invariants.ONE_OPEN_ATTEMPT,
        "done-1",
        ["UPDATE attempts SET closed_at = NULL WHERE task_id = 'done'"],
    ),
    (
        invariants.ONE_OPEN_ATTEMPT,
        "running",
        [
            "INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port)"
            " SELECT task_id, 2, gpu_id, 1, 9, 'other', ip, port FROM attempts WHERE task_id = 'running'"
        ],
    ),
    (invariants.ONE_OPEN_ATTEMPT, "running-1", [f"UPDATE tasks SET waiting_since = {LONG_AGO}"]),
    (invariants.RETRIES, "waiting", ["UPDATE tasks SET retry_count = 1 WHERE task_id = 'waiting'"]),
    (invariants.RETRIES, "failed", ["UPDATE tasks SET max_retries = -1 WHERE task_id = 'failed'"]),
    (
        invariants.STATUS_OF_ATTEMPT,
        "running",
        ["UPDATE attempts SET closed_at = claimed_at, outcome = 'FAILED', collected_at = claimed_at"],
    ),
    (invariants.STATUS_OF_ATTEMPT, "running", ["UPDATE tasks SET status = 'QUEUED' WHERE task_id = 'running'"]),
    (invariants.STATUS_OF_ATTEMPT, "waiting", ["UPDATE tasks SET status = 'PROCESSING' WHERE task_id = 'waiting'"]),
    (invariants.SLOTS, "g", ["UPDATE attempts SET slot = 3"]),
    (invariants.SLOTS, "g", ["UPDATE attempts SET slot = 0"]),
    (invariants.SLOTS, "g", ["UPDATE gpus SET max_concurrent_tasks = 0"]),
    (invariants.SLOTS, "g", ["UPDATE attempts SET gpu_id = 'g1', slot = 1, closed_at = NULL, released_at = NULL"]),
    (invariants.SLOTS, "running-1", [f"UPDATE attempts SET released_at = {LONG_AGO} WHERE task_id = 'running'"]),
    (invariants.END_REASON, "failed", ["UPDATE tasks SET end_reason = 'CANCELLED', completed_at = created_at"]),
    (invariants.END_REASON, "failed-1", ["UPDATE attempts SET outcome = 'TASK_ENDED' WHERE task_id = 'failed'"]),
    (invariants.END_REASON, "done-1", [f"UPDATE tasks SET expires_at = {LONG_AGO} WHERE task_id = 'done'"]),
    (invariants.SLOTS, "g", ["DELETE FROM gpus"]),
    (times.ORDERED_TIMES, "done", [f"UPDATE tasks SET completed_at = {LONG_AGO} WHERE task_id = 'done'"]),
    (times.ORDERED_TIMES, "running", [f"UPDATE tasks SET started_at = {LONG_AGO} WHERE task_id = 'running'"]),
    (times.ORDERED_TIMES, "failed", ["UPDATE tasks SET completed_at = NULL WHERE task_id = 'failed'"]),
    (times.ORDERED_TIMES, "waiting", ["UPDATE tasks SET completed_at = 'infinity' WHERE task_id = 'waiting'"]),
    (invariants.EPOCHS, "running-1", ["UPDATE attempts SET gpu_epoch = 2 WHERE task_id = 'running'"]),
    (invariants.EPOCHS, "running-1", ["UPDATE attempts SET gpu_id = 'nobody'"]),
    (invariants.ACKNOWLEDGED_WHOLE, "a", ["UPDATE alerts SET acknowledged_by = 'me'"]),
    (invariants.ACKNOWLEDGED_WHOLE, "a", ["UPDATE alerts SET status = 'ACKNOWLEDGED'"]),
    (
        invariants.ONE_LEADER,
        "second i",
        ["INSERT INTO leader_lease SELECT 'second', holder, 1, expires_at FROM leader_lease"],
    ),
    (
        invariants.COUNTS,
        "tasks 1 COMPLETED: 2 kept, 1 there",
        ["INSERT INTO counter_deltas VALUES ('tasks', '1 COMPLETED', 1)"],
    ),
    (times.PAST, "tasks waiting", [f"UPDATE tasks SET waiting_since = {AHEAD} WHERE task_id = 'waiting'"]),
    (times.PAST, "attempts done-1", [f"UPDATE attempts SET closed_at = {AHEAD} WHERE task_id = 'done'"]),
    (times.PAST, "gpu_beats g1", [f"UPDATE gpu_beats SET at = {AHEAD} WHERE gpu_id = 'g1'"]),
    (times.PAST, "gpus g1", [f"UPDATE gpus SET status_since = {AHEAD} WHERE gpu_id = 'g1'"]),
    (times.PAST, "gpus g1 rests", [f"UPDATE gpus SET not_before = {AHEAD} WHERE gpu_id = 'g1'"]),
    (times.PAST, "leader lease", [f"INSERT INTO leader_lease VALUES ('leader', 'i', 1, {AHEAD})"]),
    (invariants.COUNTS, "gpus ACTIVE: 3 kept, 2 there", ["INSERT INTO counter_deltas VALUES ('gpus', 'ACTIVE', 1)"]),
    (
        invariants.COUNTS,
        "user:u 7 QUEUED: 1 kept, 0 there",
        ["INSERT INTO counter_deltas VALUES ('user:u', '7 QUEUED', 1)"],
    ),
    (invariants.COUNTS, "alerts WARNING ACTIVE: 0 kept, 1 there", ["DELETE FROM counters WHERE counter = 'alerts'"]),
    (
        overdue.OVERDUE,
        "waiting is not started",
        [f"UPDATE outbox SET created_at = {LONG_AGO}"],
    ),
    (
        overdue.OVERDUE,
        "running-1 is not collected",
        [f"UPDATE attempts SET closed_at = {LONG_AGO} WHERE task_id = 'running'"],
    ),
    (
        overdue.OVERDUE,
        "running-1 holds its slot",
        [f"UPDATE attempts SET closed_at = {LONG_AGO} WHERE task_id = 'running'"],
    ),
    (
        overdue.OVERDUE,
        "waiting has expired",
        [f"UPDATE tasks SET expires_at = {LONG_AGO} WHERE task_id = 'waiting'"],
    ),
    (
        overdue.OVERDUE,
        "running is past its own deadline",
        [f"UPDATE tasks SET deadline = {LONG_AGO} WHERE task_id = 'running'"],
    ),
    (
        overdue.OVERDUE,
        "failed has ended, and its workflow is not notified",
        [f"INSERT INTO outbox_ends VALUES ('failed', {LONG_AGO})"],
    ),
    (
        overdue.OVERDUE,
        "op_1 makes no progress",
        [
            "INSERT INTO operations (operation_id, kind, filter, key_id, owner, role, lineage, grants, request_hash,"
            " asked_at, bound, matched, state, updated_at) SELECT 'op_1', 'CANCEL', '{}', 'k', 'o', 'user', 'k', '{}',"
            f" 'h', at, 1, 1, 'RUNNING', at FROM (SELECT {LONG_AGO}) a (at)",
        ],
    ),
    (
        overdue.OVERDUE,
        "running-1 is past its deadline",
        [f"UPDATE attempts SET claimed_at = {LONG_AGO}, accepted_at = {LONG_AGO} WHERE task_id = 'running'"],
    ),
    (
        overdue.OVERDUE,
        "running-1 is held by g",
        [f"UPDATE gpus SET gone_at = {LONG_AGO}"],
    ),
    (
        overdue.OVERDUE,
        "running-1 is held by g",
        [f"UPDATE gpus SET status = 'FAULTY', status_since = {LONG_AGO}"],
    ),
    (
        overdue.IDLE,
        "waiting beside g1",
        [
            f"UPDATE tasks SET waiting_since = {LONG_AGO} WHERE task_id = 'waiting'",
            f"UPDATE gpus SET task_types = '{{3}}', status_since = {LONG_AGO}, registered_at = {LONG_AGO}",
        ],
    ),
    (
        overdue.IDLE,
        "waiting beside g1",
        [
            f"UPDATE tasks SET waiting_since = {LONG_AGO}, queue_class = 1 WHERE task_id = 'waiting'",
            "UPDATE gpus SET task_types = '{3}', priority_queue = 'VIP',"
            f" status_since = {LONG_AGO}, registered_at = {LONG_AGO}",
        ],
    ),
]


@pytest.mark.parametrize(("check", "subject", "statements"), VIOLATIONS)
async def test_a_violation_is_found(
    books: Books, connection: Session, check: Check, subject: str, statements: list[str]
) -> None:
    await books.sql(NO_CONSTRAINTS, *(NO_KEY.format(table) for table in ("task_results", "leader_lease")))
    assert (await verify.find(connection, check)).violations == 0
    await books.sql(*statements)
    found = await verify.find(connection, check)
    assert found.violations >= 1
    assert any(example.startswith(subject) for example in found.examples), found


@pytest.mark.parametrize(("age_s", "is_overdue"), [(50, False), (70, True)])
async def test_what_has_stayed_in_the_outbox_is_overdue(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    await books.sql(f"UPDATE outbox SET created_at = clock_timestamp() - interval '{age_s} s'")
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("waiting is not started" in found.examples) == is_overdue


@pytest.mark.parametrize(("age_s", "is_overdue"), [(100, False), (130, True)])
async def test_after_many_ends_at_one_moment_each_is_notified_in_its_turn(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    moment, many = f"clock_timestamp() - interval '{age_s} s'", 60 * overdue.ENDS_PER_S
    await books.sql(
        "CREATE TABLE copied AS SELECT * FROM tasks WHERE task_id = 'failed'",
        f"UPDATE copied SET idempotency_key = NULL, end_reason = 'CANCELLED', completed_at = {moment},"
        f" created_at = {LONG_AGO}, started_at = NULL",
        "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(c, jsonb_build_object('task_id',"
        f" 'many ' || n, 'display_id', 100000 + n))).* FROM copied c, generate_series(1, {many}) n",
        f"INSERT INTO outbox_ends VALUES ('many 7', {moment})",
    )
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("many 7 has ended, and its workflow is not notified" in found.examples) == is_overdue
    assert await verify.closes_within_s(connection, "many 7") == 120
    assert await verify.closes_within_s(connection, "done") == 60


@pytest.mark.parametrize(("age_s", "is_overdue"), [(100, False), (130, True)])
async def test_after_many_creations_at_one_moment_each_is_started_in_its_turn(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    moment, many = f"clock_timestamp() - interval '{age_s} s'", 60 * overdue.STARTS_PER_S - 1
    await books.sql(
        f"CREATE TABLE moment AS SELECT {moment} AS at",
        "CREATE TABLE copied AS SELECT * FROM tasks WHERE task_id = 'failed'",
        "UPDATE copied SET idempotency_key = NULL, created_at = at, started_at = NULL FROM moment",
        "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(c, jsonb_build_object('task_id',"
        f" 'many ' || n, 'display_id', 100000 + n))).* FROM copied c, generate_series(1, {many}) n",
        "UPDATE tasks SET created_at = at FROM moment WHERE task_id = 'waiting'",
        "UPDATE outbox SET created_at = at FROM moment",
    )
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("waiting is not started" in found.examples) == is_overdue


async def test_the_time_of_an_attempt_counts_from_its_acceptance(books: Books, connection: Session) -> None:
    await books.sql(
        f"UPDATE attempts SET claimed_at = {LONG_AGO}, accepted_at = clock_timestamp() WHERE task_id = 'running'"
    )
    assert (await verify.find(connection, overdue.OVERDUE)).violations == 0


async def test_a_silent_node_that_is_still_active_is_found(books: Books, connection: Session) -> None:
    await books.sql(f"UPDATE gpu_beats SET at = {LONG_AGO} WHERE gpu_id = 'g1'")
    found = await verify.silent_but_active(connection, 60)
    assert (found.rows, found.examples) == (2, ["g1"])
