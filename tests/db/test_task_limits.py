"""A task that is past a limit of its own never starts; it is found and ended (ADR 0037)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from infra.db.attempts.dispatch_request import read_request
from infra.db.connection import only
from infra.db.slots import assign, capacity
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.tasks import limits
from infra.db.tasks.new_task import NewTask, TimeBounds
from infra.db.transactions import accept_attempt, claim_slot, create_task, end_at_limit, end_task
from infra.db.transactions.claim_slot import PastLimit
from tests.db import rows
from tests.db.life import Life
from tests.db.rows import NOW, Sql
from workflows.domain.attempt import Outcome
from workflows.domain.errors import DeadlinePassed, WaitTooLong
from workflows.domain.limits import MAX_WAIT_S
from workflows.domain.task import EndReason

SOON = Sql("clock_timestamp() + interval '3 s'")
LATER = Sql("clock_timestamp() + interval '1 h'")
PAST = Sql("clock_timestamp() - interval '1 s'")
LONG_PAST = Sql("clock_timestamp() - interval '1 h'")
OPEN: dict[str, Any] = {"waiting_since": NOW}
EXPIRED, DEADLINE = EndReason.EXPIRED, EndReason.DEADLINE


async def found(life: Life) -> dict[str, tuple[str, bool]]:
    return {one.task_id: (one.reason, one.waits) for one in await limits.due(life.connection, 100)}


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        ({"expires_at": PAST}, EXPIRED),
        ({"deadline": PAST}, DEADLINE),
        ({"expires_at": PAST, "deadline": LONG_PAST}, DEADLINE),  # the earlier one
        ({"expires_at": LONG_PAST, "deadline": PAST}, EXPIRED),
    ],
)
async def test_what_is_past_a_limit_is_not_assigned_and_its_workflow_is_to_end_it(
    life: Life, past: dict[str, Any], reason: EndReason
) -> None:
    await rows.task(life.connection, "late", **OPEN, **past)
    await life.node("n", [1])
    assert await life.running() == {}
    claim = await claim_slot.claim(life.run, "late")
    assert claim.result == PastLimit(reason)
    assert await found(life) == {"late": (reason, True)}
    await rows.task(life.connection, "in time", expires_at=LATER, deadline=LATER, **OPEN)
    granted = await assign.assign(life.connection, "n")
    assert [one.task.task_id for one in granted] == ["in time"]
    assert await life.scalar("SELECT claimed_at < expires_at FROM attempts JOIN tasks USING (task_id)")
    assert await end_at_limit.end_waiting(life.connection, ["late", "in time"], reason, actor="test") == ["late"]
    task = await life.task("late")
    assert (task.status, task.end_reason, task.error_message) == ("TIMEOUT", reason, end_at_limit.MESSAGES[reason])
    assert await found(life) == {}


async def granted(life: Life, **columns: Any) -> None:
    await life.node("n", [1])
    await rows.task(life.connection, "t", **OPEN, **columns)
    await assign.assign(life.connection, "n")


async def test_a_grant_that_no_node_has_accepted_expires_and_its_slot_is_held(life: Life) -> None:
    await granted(life, expires_at=SOON)
    request = await read_request(life.connection, "t", 1)
    assert request is not None
    assert (request.past, request.expires_soon) == (None, True)
    await life.do("UPDATE tasks SET expires_at = clock_timestamp() WHERE task_id = 't'")
    request = await read_request(life.connection, "t", 1)
    assert request is not None
    assert request.past == EXPIRED
    assert await found(life) == {"t": (EXPIRED, False)}
    assert await end_at_limit.end_waiting(life.connection, ["t"], EXPIRED, actor="test") == []
    ended = await end_at_limit.end(life.connection, "t", EXPIRED, actor="test")
    assert (ended.changed, ended.status) == (True, "TIMEOUT")
    assert ended.running is not None
    assert await read_request(life.connection, "t", 1) is None
    assert (await life.gpu("n")).task_failure_count == 0


async def test_what_a_node_has_accepted_does_not_expire_and_has_a_deadline(life: Life) -> None:
    await granted(life, expires_at=LATER)
    assert await accept_attempt.accept(life.connection, "t", 1, actor="test")
    await life.do("UPDATE tasks SET expires_at = clock_timestamp() WHERE task_id = 't'")
    request = await read_request(life.connection, "t", 1)
    assert request is not None
    assert request.past is None
    assert await found(life) == {}
    ended = await end_at_limit.end(life.connection, "t", EXPIRED, actor="test")
    assert (ended.changed, ended.status) == (False, "PROCESSING")
    await life.do("UPDATE tasks SET deadline = clock_timestamp() WHERE task_id = 't'")
    assert await found(life) == {"t": (DEADLINE, False)}
    ended = await end_at_limit.end(life.connection, "t", DEADLINE, actor="test")
    assert (ended.changed, ended.status, ended.reason) == (True, "TIMEOUT", DEADLINE)


async def test_an_acceptance_between_the_read_and_the_close_wins(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await granted(life, expires_at=LATER)
    await life.do("UPDATE attempts SET accepted_at = clock_timestamp()")
    ended = await end_at_limit.end(life.connection, "t", EXPIRED, actor="test")
    assert (ended.changed, ended.status) == (False, "PROCESSING")


async def test_a_result_that_was_accepted_before_the_deadline_wins(life: Life) -> None:
    await granted(life, deadline=LATER)
    await life.settle("t")
    await life.do("UPDATE tasks SET deadline = clock_timestamp() WHERE task_id = 't'")
    ended = await end_at_limit.end(life.connection, "t", DEADLINE, actor="test")
    assert (ended.changed, ended.status) == (False, "COMPLETED")
    assert await found(life) == {}


async def test_a_pause_before_a_retry_expires(life: Life) -> None:
    await granted(life, expires_at=LATER)
    assert (await life.end("t", Outcome.FAILED)).status == "FAILED"  # max_retries is 0 in these rows
    await rows.task(life.connection, "pausing", expires_at=PAST, attempts=1)
    await rows.attempt(life.connection, "pausing", gpu_id="n", closed_at=NOW, collected_at=NOW, outcome=Outcome.FAILED)
    assert await found(life) == {"pausing": (EXPIRED, False)}
    assert (await end_at_limit.end(life.connection, "pausing", EXPIRED, actor="test")).changed


async def test_many_are_found_by_their_indexes(life: Life) -> None:
    await rows.crowd(life.connection)
    plan = await life.connection.rows(f"EXPLAIN {limits._DUE}", {"limit": 10})
    text = "\n".join(only(row) if isinstance(row, tuple) else str(row) for row in plan)
    for index in ("ix_tasks_expiry", "ix_tasks_deadline"):
        assert f"using {index}" in text, text
    assert text.count("Index Cond") >= 2, text


def new(task_id: str, key: str | None = None, **more: Any) -> NewTask:
    return rows.new_task(task_id, idempotency_key=key, request_hash=key, **more)


async def create(life: Life, task: NewTask, *, seen: Capacity | None = None, **options: Any) -> create_task.Created:
    seen = seen or await capacity.read(life.connection, Wanted(1, vip=True))
    return await create_task.create(life.connection, task, Outlook(seen), weight=1.0, by=rows.CREATOR, **options)


async def test_an_expiry_counts_from_the_creation_by_the_database_s_clock(life: Life) -> None:
    await create(life, new("t"), bounds=TimeBounds(expires_in_ms=60_000))
    away = await life.scalar("SELECT extract(epoch FROM expires_at - created_at)::float FROM tasks")
    assert away == pytest.approx(60, abs=1)


async def test_a_past_deadline_is_refused_unless_the_same_request_came_before(life: Life) -> None:
    now = await life.scalar("SELECT clock_timestamp()")
    with pytest.raises(DeadlinePassed):
        await create(life, new("t", "key", deadline=now))
    assert await life.scalar("SELECT count(*) FROM tasks") == 0
    await rows.task(life.connection, "earlier", lineage="k", idempotency_key="key", request_hash="key", deadline=now)
    assert (await create(life, new("t", "key", deadline=now))).row.task_id == "earlier"


async def test_a_retry_drops_a_deadline_that_passes_before_it_is_created(life: Life) -> None:
    now = await life.scalar("SELECT clock_timestamp()")
    await create(life, new("t", deadline=now, expires_at=now + timedelta(hours=1), retry_of="earlier"))
    task = await life.task("t")
    assert (task.deadline, task.expires_at) == (None, now + timedelta(hours=1))


@pytest.mark.parametrize(("max_wait_s", "retry_after_s"), [(0, 60), (1, 60)])
async def test_an_unknown_wait_is_too_long(life: Life, max_wait_s: int, retry_after_s: int) -> None:
    await rows.task(life.connection, "earlier", lineage="k", idempotency_key="key", request_hash="key")
    asked = TimeBounds(max_wait_s=max_wait_s)
    with pytest.raises(WaitTooLong) as refused:
        await create(life, new("t"), bounds=asked)
    assert refused.value.retry_after_s == retry_after_s
    assert (await create(life, new("t", "key"), bounds=asked)).row.task_id == "earlier"


async def test_a_wait_is_taken_or_refused_by_its_estimate(life: Life) -> None:
    await life.node("n", [1])
    assert (await create(life, new("first"), bounds=TimeBounds(max_wait_s=0))).grant is not None
    estimate = (await create(life, new("waits"), bounds=TimeBounds(max_wait_s=MAX_WAIT_S))).row.estimated_wait_s
    assert estimate > 1
    for max_wait_s in (0, 1):
        with pytest.raises(WaitTooLong) as refused:
            await create(life, new(f"refused {max_wait_s}"), bounds=TimeBounds(max_wait_s=max_wait_s))
        assert refused.value.retry_after_s >= estimate - max_wait_s
    assert await life.scalar("SELECT count(*) FROM tasks") == 2


async def test_a_wait_is_judged_by_the_fleet_as_it_is(life: Life) -> None:
    asked = TimeBounds(max_wait_s=5)
    before = await capacity.read(life.connection, Wanted(1, vip=True))
    await life.node("n", [1])
    await life.create("first", claims_slot=True)
    await life.do("UPDATE attempts SET outcome = 'TIMED_OUT', closed_at = clock_timestamp() - interval '8 s',"
                  " claimed_at = claimed_at - interval '1 h'")  # fmt: skip
    assert (await create(life, new("t"), seen=before, bounds=asked)).row.estimated_wait_s == 2
    before = await capacity.read(life.connection, Wanted(1, vip=True))
    await life.do("UPDATE gpus SET status = 'OFFLINE'")
    with pytest.raises(WaitTooLong):
        await create(life, new("refused"), seen=before, bounds=asked)


async def test_where_the_free_slot_falls_to_a_better_task_it_is_refused(life: Life) -> None:
    await rows.task(life.connection, "better", priority=2, queue_class=1, **OPEN)
    await rows.node(life.connection, "n", task_types=[1])
    with pytest.raises(WaitTooLong):
        await create(life, new("t"), bounds=TimeBounds(max_wait_s=0))


async def test_without_an_engine_no_slot_is_free_at_once(life: Life) -> None:
    await life.node("n", [1])
    with pytest.raises(WaitTooLong):
        await create(life, new("t"), bounds=TimeBounds(max_wait_s=0), claims_slot=False)


def test_every_limit_has_its_message() -> None:
    assert set(end_at_limit.MESSAGES) == {EXPIRED, DEADLINE}
    assert end_task.TaskEnd(EXPIRED, "a", end_at_limit.MESSAGES[EXPIRED]).message
