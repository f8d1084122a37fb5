"""The waits that were estimated: unknown where no node serves the type, and compared with the real ones."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from infra.db.ops import health
from infra.db.ops.health import ESTIMATES_OF, WaitEstimates
from infra.db.slots import capacity, progress_estimate
from infra.db.slots.eligibility import Wanted
from infra.db.slots.forecast import Forecast
from infra.db.slots.outlook import Outlook
from infra.db.slots.wait_estimate import UNKNOWN_WAIT_S, expected_wait_s, wait_of
from infra.db.tasks import queries as task_queries
from infra.db.tasks.new_task import TimeBounds
from infra.db.transactions import create_task
from tests.db import rows
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workflows.domain.attempt import HELD_S, Outcome
from workflows.domain.errors import WaitTooLong
from workflows.domain.queue_policy import QueuePolicy
from workflows.domain.task import USUAL_DURATION_S


async def ended(life: Life, task_id: str, estimated_s: int, waited_s: float) -> None:
    """End a task whose estimated wait was `estimated_s` and whose real wait was `waited_s`."""
    await life.node("n", [1])
    await life.create(task_id)
    assert await life.claim(task_id) == "n"
    await life.end(task_id)
    await life.do("UPDATE tasks SET estimated_wait_s = %(s)s WHERE task_id = %(t)s", s=estimated_s, t=task_id)
    await life.do(
        "UPDATE attempts a SET accepted_at = t.created_at + make_interval(secs => %(s)s)"
        " FROM tasks t WHERE t.task_id = %(t)s AND a.task_id = t.task_id",
        s=waited_s,
        t=task_id,
    )


async def test_nothing_has_ended_yet(life):
    assert await health.wait_estimates(life.connection) == WaitEstimates()


async def test_the_error_is_the_estimated_less_the_real_wait(life):
    for number, (estimated_s, waited_s) in enumerate([(10, 7.0), (10, 11.0), (0, 2.0)]):
        await ended(life, f"t{number}", estimated_s, waited_s)
    found = await health.wait_estimates(life.connection)
    assert astuple(found) == pytest.approx((3, 2.0, 2.8, 0.0))


async def test_only_the_last_ended_tasks_count(life):
    await ended(life, "old", 1000, 0)
    await life.do("UPDATE tasks SET completed_at = completed_at - interval '1 h', created_at = created_at - "
                  "interval '2 h', started_at = NULL WHERE task_id = 'old'")  # fmt: skip
    await life.do("UPDATE attempts SET accepted_at = accepted_at - interval '2 h' WHERE task_id = 'old'")
    assert (await health.wait_estimates(life.connection)).median_error_s == pytest.approx(1000)
    for number in range(ESTIMATES_OF):
        await ended(life, f"t{number}", 1, 0)
    found = await health.wait_estimates(life.connection)
    assert found.samples == ESTIMATES_OF
    assert found.p90_error_s == pytest.approx(1)


async def test_a_first_attempt_that_no_node_took_does_not_end_the_wait(life):
    await life.node("n", [1])
    await life.create("t")
    await life.claim("t")
    await life.end("t", Outcome.REFUSED)
    await life.do("UPDATE gpus SET not_before = NULL")
    await life.do("UPDATE tasks SET created_at = created_at - interval '5 s', started_at = NULL")
    await life.claim("t")
    await life.end("t")
    found = await health.wait_estimates(life.connection)
    assert found.bias_s == pytest.approx(-5, abs=1)
    assert found.samples == 1


@pytest.mark.parametrize(
    ("changes", "serves", "known"),
    [
        ("status = status", "NORMAL", True),  # one slot, which a task holds
        ("not_before = clock_timestamp() + interval '1 min'", "NORMAL", True),  # resting
        ("status = 'OFFLINE'", "NORMAL", False),
        ("status = 'FAULTY'", "NORMAL", False),
        ("gone_at = clock_timestamp()", "NORMAL", False),
        ("task_types = ARRAY[2]", "NORMAL", False),
        ("status = status", "VIP", False),
    ],
)
async def test_the_wait_is_unknown_where_no_active_node_serves_the_type(life, changes, serves, known):
    life.connection.policy = QueuePolicy(vip_nodes_strict=True)
    await life.node("n", [1], serves=serves)
    await life.create("first", priority=2)
    await life.claim("first")
    await life.do(f"UPDATE gpus SET {changes}")
    assert (await life.create("second") != UNKNOWN_WAIT_S) is known
    seen = await capacity.read(life.connection, Wanted(1, vip=False))
    assert (expected_wait_s(5, seen) is not None) is known


async def test_a_slot_that_is_held_or_rests_is_free_when_that_is_over(life):
    await life.node("n", [1], slots=3)
    for task_id in ("held", "runs"):
        await life.create(task_id, claims_slot=True)
    await life.do(
        "UPDATE attempts SET outcome = 'TIMED_OUT', closed_at = clock_timestamp() - interval '4 s',"
        " claimed_at = claimed_at - interval '1 h' WHERE task_id = 'held'"
    )
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert seen.ends_s == pytest.approx([0, HELD_S - 4, USUAL_DURATION_S], abs=2)
    assert (len(seen.remaining_s), seen.nodes.free_slots) == (1, 1)
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '55 s', rests = 1")
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert seen.ends_s == pytest.approx([max(55, USUAL_DURATION_S)], abs=2)  # of two attempts: then it runs a probe
    assert (seen.nodes.slots, seen.nodes.free_slots) == (1, 0)
    await life.do("UPDATE gpus SET not_before = clock_timestamp() - interval '1 s'")
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert seen.ends_s == pytest.approx([USUAL_DURATION_S], abs=2)  # one at a time, after both
    assert (len(seen.remaining_s), seen.nodes.slots, seen.nodes.free_slots) == (1, 1, 0)
    await life.do(
        "UPDATE gpus SET not_before = clock_timestamp() + interval '1 h', rests = 0"
    )  # the clock was set back
    assert (await capacity.read(life.connection, Wanted(1, vip=True))).nodes.free_slots == 1


async def test_a_node_that_runs_its_probe_has_one_slot(life):
    await life.node("n", [1], slots=4)
    await life.do("UPDATE gpus SET rests = 1, not_before = clock_timestamp() - interval '1 s'")
    assert (await capacity.read(life.connection, Wanted(1, vip=True))).ends_s == [0]
    await life.create("probe", claims_slot=True)
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    waits = [expected_wait_s(ahead, seen) for ahead in range(3)]
    assert waits == [pytest.approx(turn * USUAL_DURATION_S, abs=2) for turn in (1, 2, 3)]
    with pytest.raises(WaitTooLong):
        await create_task.create(
            life.connection,
            rows.new_task("impatient"),
            Outlook(seen),
            weight=1.0,
            by=rows.CREATOR,
            bounds=TimeBounds(max_wait_s=5),
        )


async def test_a_resting_node_rests_on_each_of_its_slots(life):
    await life.node("n", [1], slots=2)
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '20 s'")
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert seen.ends_s == pytest.approx([20, 20], abs=2)


async def test_a_node_that_has_fewer_slots_than_attempts_gets_work_after_the_last_ones(life):
    await life.node("n", [1], slots=3)
    for number in range(3):
        await life.create(f"t{number}", claims_slot=True)
    await life.do("UPDATE attempts SET accepted_at = clock_timestamp() - make_interval(secs => 5 * slot)")
    await life.do("UPDATE gpus SET max_concurrent_tasks = 2")
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert seen.ends_s == pytest.approx([USUAL_DURATION_S - 10, USUAL_DURATION_S - 5], abs=2)


@pytest.mark.parametrize(("status", "pool"), [("ACTIVE", [1, 2]), ("OFFLINE", [1]), ("FAULTY", [1])])
async def test_work_that_only_an_absent_node_shares_is_not_ahead(life, status, pool):
    """It keeps one clock with the type all the same: the node may come back."""
    await life.node("n", [1])
    await life.node("both", [1, 2])
    await life.do("UPDATE gpus SET status = %(s)s WHERE gpu_id = 'both'", s=status)
    seen = await capacity.read(life.connection, Wanted(1, vip=True))
    assert (seen.pool, seen.clock) == (pool, [1, 2])


async def test_a_task_waits_for_no_slot_of_a_node_from_which_it_is_barred(life):
    await life.node("picky", [1, 2])
    await life.create("t")
    await life.claim("t")
    await life.node("other", [1])
    await life.create("long")
    assert await life.claim("long") == "other"
    await life.end("t", Outcome.REJECTED, "no")
    assert await life.claim("t") is None
    row = await task_queries.progress(life.connection, "t")
    assert row is not None
    seen, ahead = await Forecast(OneConnection(life.connection)).of_task(row)
    assert (seen.nodes.reason(), seen.pool, ahead) == ("2 nodes: 1 barred, 1 full", [1], 0)
    assert seen.ends_s == pytest.approx([USUAL_DURATION_S], abs=2)
    assert (await capacity.read(life.connection, Wanted(1, vip=True))).nodes.reason() == "2 nodes: 1 full, 1 free"


async def wait_now(life: Life, task_id: str) -> int | None:
    """`estimatedWaitTime` of the task's own answer, read by a process that remembers nothing."""
    task = await task_queries.get(life.connection, task_id)
    assert task is not None
    return wait_of((await Forecast(OneConnection(life.connection)).with_wait(task)).estimated_wait_s)


async def test_the_wait_of_a_queued_task_is_the_one_of_now(life):
    assert wait_of(await life.create("t")) is None
    assert await wait_now(life, "t") is None
    await life.create("first", priority=2)
    await life.node("n", [1])
    assert await life.running() == {"first": "n"}
    assert await wait_now(life, "t") == pytest.approx(USUAL_DURATION_S, abs=2)
    await life.do("UPDATE gpus SET drained_at = clock_timestamp(), drained_by = 'o', drain_reason = 'r'")
    assert await wait_now(life, "t") is None
    await life.do("UPDATE gpus SET drained_at = NULL, drained_by = NULL, drain_reason = NULL")
    await life.do("UPDATE gpus SET gone_at = clock_timestamp()")
    assert await wait_now(life, "t") is None
    assert (await life.task("t")).estimated_wait_s == UNKNOWN_WAIT_S


async def test_a_queued_task_that_has_a_slot_waits_no_more(life):
    """Its own attempt takes the slot, which is not free before it ends."""
    await life.node("n", [1])
    await life.create("t")
    await life.do("UPDATE tasks SET estimated_wait_s = 77")
    await life.claim("t")
    assert await wait_now(life, "t") == 0
    row = await task_queries.progress(life.connection, "t")
    assert row is not None
    shown = progress_estimate.of(row, *await Forecast(OneConnection(life.connection)).of_task(row))
    assert shown == (0, USUAL_DURATION_S)
    await life.do("UPDATE tasks SET status = 'PROCESSING', started_at = clock_timestamp()")
    assert await wait_now(life, "t") == 77  # that of its creation


async def test_a_task_that_has_its_slot_at_once_waits_0_s(life):
    await life.node("n", [1])
    assert wait_of(await life.create("t", claims_slot=True)) == 0
    assert await life.running() == {"t": "n"}


async def test_an_unknown_wait_is_not_compared(life):
    await life.create("t")
    assert (await life.task("t")).estimated_wait_s == UNKNOWN_WAIT_S
    await life.node("n", [1])
    await life.claim("t")
    await life.end("t")
    assert await health.wait_estimates(life.connection) == WaitEstimates()
