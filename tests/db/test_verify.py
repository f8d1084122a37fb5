"""Each check of `gpu-orchestrator verify` finds the violation that was written by hand, and none in sound books."""

from __future__ import annotations

import pytest

from infra.db.repair import invariants, overdue, times, verify
from infra.db.repair.check import Check
from infra.settings import Settings
from tests.db.books import AHEAD, LONG_AGO, Books
from tests.db.sessions import Session
from workers.verify import rows

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


async def test_a_silent_node_that_is_still_active_is_found(books: Books, connection: Session) -> None:
    await books.sql(f"UPDATE gpu_beats SET at = {LONG_AGO} WHERE gpu_id = 'g1'")
    found = await verify.silent_but_active(connection, 60)
    assert (found.rows, found.examples) == (2, ["g1"])
