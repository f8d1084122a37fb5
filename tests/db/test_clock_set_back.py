"""The database's clock was two hours ahead, and is right again: what was stored meanwhile is unknown, not just now."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from activities.nodes import NodeSteps
from infra.db import clock
from infra.db.nodes import liveness
from infra.db.nodes import queries as node_queries
from infra.db.nodes.drains import Drain
from infra.db.ops import counters, health, instances, leadership
from infra.db.ops.instances import Load
from infra.db.queue import aging
from infra.db.repair import drift
from infra.db.repair.invariants import DRAINED
from infra.db.slots import capacity, free_nodes, search
from infra.db.slots.eligibility import Wanted
from infra.db.slots.search import Seeker
from infra.db.transactions import node_state
from infra.db.transactions.collect_attempt import due_in_s
from infra.settings import Settings
from infra.temporal import schedules
from infra.temporal.access import TemporalAway
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workers.leader.late_monitor import LateMonitor
from workflows.domain.attempt import Outcome

AHEAD = "clock_timestamp() + interval '2 h'"
GRACE_S, LEASE_S = 40.0, 10.0
IDLE = Load(0, 0, 0)


@pytest.fixture
async def fresh(life: Life) -> Life:
    await life.do("TRUNCATE instances, leader_lease, monitor_reports, outbox")
    return life


async def joined(life: Life) -> str:
    return await instances.join(life.connection, kind="api", hostname="h", pid=1, version="1")


async def silent(life: Life) -> list[str]:
    return [gpu_id for gpu_id, _ in (await liveness.find(life.connection, GRACE_S)).lapsed]


@pytest.mark.parametrize(
    ("moment", "long_ago", "recent", "known"),
    [
        ("clock_timestamp() - interval '9 s'", False, True, True),
        ("clock_timestamp() - interval '11 s'", True, False, True),
        (AHEAD, True, False, False),
        ("CAST(NULL AS timestamptz)", None, None, False),
    ],
)
async def test_the_comparisons(life: Life, moment: str, *, long_ago: bool, recent: bool, known: bool) -> None:
    interval = "interval '10 s'"
    assert await life.scalar(f"SELECT {clock.long_ago(moment, interval)}") is long_ago
    assert await life.scalar(f"SELECT {clock.recent(moment, interval)}") is recent
    assert (await life.scalar(f"SELECT {clock.known(moment)}") is not None) is known


async def test_a_lease_that_lasts_too_long_is_over_and_the_epoch_rises(fresh: Life) -> None:
    gone, alive = await joined(fresh), await joined(fresh)
    assert await leadership.lead(fresh.connection, gone, LEASE_S) == 1
    assert await leadership.lead(fresh.connection, alive, LEASE_S) is None
    await fresh.do(f"UPDATE leader_lease SET expires_at = {AHEAD}")
    await fresh.do(f"UPDATE instances SET last_beat = {AHEAD}")
    assert await leadership.lead(fresh.connection, alive, LEASE_S) == 2
    assert await leadership.lead(fresh.connection, gone, LEASE_S) is None
    await fresh.do(f"UPDATE leader_lease SET expires_at = {AHEAD}")
    assert await leadership.lead(fresh.connection, alive, LEASE_S) == 3  # its own one too
    assert await leadership.lead(fresh.connection, alive, LEASE_S) == 3


async def test_a_longer_lease_of_a_holder_that_lives_is_not_taken(fresh: Life) -> None:
    holder, other = await joined(fresh), await joined(fresh)
    assert await leadership.lead(fresh.connection, holder, 6 * LEASE_S) == 1
    assert await leadership.lead(fresh.connection, other, LEASE_S) is None
    assert await leadership.lead(fresh.connection, holder, 6 * LEASE_S) == 1
    await fresh.do("UPDATE instances SET last_beat = last_beat - interval '31 s'")
    assert await leadership.lead(fresh.connection, other, LEASE_S) == 2


async def test_a_small_step_back_takes_no_node_that_beats(fresh: Life) -> None:
    await fresh.node("n", [1])
    listens = await joined(fresh)
    await fresh.do("UPDATE instances SET listening_since = clock_timestamp() - interval '1 day'")
    await fresh.do("UPDATE gpu_beats SET at = clock_timestamp() + interval '700 ms'")
    assert await silent(fresh) == []
    await liveness.set_right(fresh.connection)
    await instances.beat(fresh.connection, listens, IDLE, GRACE_S / 2)
    assert await silent(fresh) == []


async def test_a_node_that_registered_in_time_to_come_is_judged_and_guarded_as_others_are(fresh: Life) -> None:
    await joined(fresh)
    for gpu_id in ("a", "b", "c"):
        await fresh.node(gpu_id, [1])
    await fresh.do(f"UPDATE gpus SET status_since = {AHEAD}, judged_since = {AHEAD}, registered_at = {AHEAD}")
    registered = await fresh.scalar("SELECT registered_at FROM gpus WHERE gpu_id = 'a'")
    await liveness.set_right(fresh.connection)
    await fresh.create("t", max_retries=0)
    await fresh.claim("t")
    await fresh.end("t", Outcome.FAILED)
    assert await fresh.scalar("SELECT count(*) FROM gpus JOIN attempts USING (gpu_id) WHERE closed_at >= judged_since")
    assert await fresh.scalar("SELECT registered_at FROM gpus WHERE gpu_id = 'a'") == registered
    grace = "interval '45 s'"
    await fresh.do(f"UPDATE instances SET listening_since = listening_since - {grace}")
    await fresh.do(f"UPDATE gpu_beats SET at = clock_timestamp() - {grace}")
    await fresh.do(f"UPDATE gpus SET status_since = status_since - 2 * {grace}")
    assert len((await liveness.find(fresh.connection, GRACE_S)).held) == 3


async def test_a_claim_that_is_dated_ahead_is_not_taken_for_one_on_a_draining_node(fresh: Life) -> None:
    await fresh.node("n", [1])
    await fresh.create("t")
    await fresh.claim("t")
    await fresh.do(f"UPDATE attempts SET claimed_at = {AHEAD}")
    await node_state.drain(fresh.connection, "n", Drain("ops", "fan"))
    assert await fresh.connection.all(str, DRAINED.broken) == []
    await drift.set_right(fresh.connection)
    assert await fresh.connection.all(str, DRAINED.broken) == []
    await fresh.do(f"UPDATE gpus SET drained_at = {AHEAD}")
    await liveness.set_right(fresh.connection)
    assert await fresh.scalar("SELECT drained_at <= clock_timestamp() FROM gpus")


async def test_a_dead_node_whose_last_beat_is_yet_to_come_goes_offline_after_a_grace(fresh: Life) -> None:
    await fresh.node("n", [1])
    await fresh.do(f"UPDATE gpu_beats SET at = {AHEAD}")
    await fresh.do(f"UPDATE gpus SET status_since = {AHEAD}, registered_at = {AHEAD}")
    listens = await joined(fresh)
    await fresh.do(f"UPDATE instances SET last_beat = {AHEAD}, listening_since = {AHEAD}")
    assert await silent(fresh) == []  # nobody listens who is known to
    await instances.beat(fresh.connection, listens, IDLE, GRACE_S / 2)
    assert await silent(fresh) == []  # from now on
    node = await node_queries.get(fresh.connection, "n")
    assert node is not None
    assert (node.last_beat, node.silent_s) == (None, 0)
    (listed,), _ = await node_queries.page(fresh.connection, None, limit=9, offset=0, room=999)
    assert listed.last_beat is None
    await fresh.do("UPDATE instances SET listening_since = listening_since - interval '1 day'")
    await liveness.set_right(fresh.connection)
    assert await silent(fresh) == []  # its grace begins
    await fresh.do("UPDATE gpu_beats SET at = at - make_interval(secs => %(s)s)", s=GRACE_S + 1)
    assert await silent(fresh) == ["n"]


async def test_an_instance_that_began_to_listen_before_listens_again(fresh: Life) -> None:
    listens = await joined(fresh)
    await fresh.do("UPDATE instances SET listening_since = clock_timestamp() - interval '1 day'")
    await fresh.do(f"UPDATE instances SET last_beat = {AHEAD}")
    await instances.beat(fresh.connection, listens, IDLE, GRACE_S / 2)
    since = "SELECT extract(epoch FROM clock_timestamp() - listening_since)::float FROM instances"
    assert await fresh.scalar(since) == pytest.approx(0, abs=5)
    await fresh.do("UPDATE instances SET listening_since = clock_timestamp() - interval '1 day'")
    await instances.beat(fresh.connection, listens, IDLE, GRACE_S / 2)
    assert await fresh.scalar(since) == pytest.approx(86400, abs=5)


async def test_a_beat_replaces_one_that_is_yet_to_come_and_no_later_one(fresh: Life) -> None:
    age = "SELECT extract(epoch FROM clock_timestamp() - at)::float FROM gpu_beats"
    await fresh.node("n", [1])
    await fresh.do(f"UPDATE gpu_beats SET at = {AHEAD}")
    await liveness.record_beats(fresh.connection, {"n": 3.0})
    assert await fresh.scalar(age) == pytest.approx(3, abs=1)
    await liveness.record_beats(fresh.connection, {"n": 9.0})  # an older batch
    assert await fresh.scalar(age) == pytest.approx(3, abs=1)
    await fresh.do(f"UPDATE gpu_beats SET at = {AHEAD}")
    await fresh.node("n", [1])
    assert await fresh.scalar(age) == pytest.approx(0, abs=1)


async def test_a_dead_instance_is_inactive_at_once_and_forgotten_in_time(fresh: Life) -> None:
    await joined(fresh)
    await fresh.do(f"UPDATE instances SET last_beat = {AHEAD}, listening_since = {AHEAD}")
    (row,) = await instances.list_all(fresh.connection, 15)
    assert not row.alive
    await instances.purge(fresh.connection, 120)
    assert await fresh.scalar("SELECT count(*) FROM instances WHERE last_beat <= clock_timestamp()") == 1
    await fresh.do("UPDATE instances SET last_beat = last_beat - interval '121 s'")
    await instances.purge(fresh.connection, 120)
    assert await instances.list_all(fresh.connection, 15) == []


async def test_no_node_rests_for_longer_than_the_longest_backoff(fresh: Life) -> None:
    await fresh.node("n", [1])
    await fresh.create("t")
    await fresh.do("UPDATE gpus SET not_before = clock_timestamp() + interval '59 s'")
    assert await fresh.claim("t") is None
    seen = await capacity.read(fresh.connection, Wanted(1, vip=True))
    assert seen.nodes.reason() == "1 nodes: 1 resting"
    assert list(await free_nodes.with_unused_slots(fresh.connection)) == []
    await fresh.do(f"UPDATE gpus SET not_before = {AHEAD}")
    await fresh.do("UPDATE tasks SET waiting_since = clock_timestamp() - interval '2 s'")
    assert (await capacity.read(fresh.connection, Wanted(1, vip=True))).nodes.free == 1
    assert list(await free_nodes.with_unused_slots(fresh.connection)) == ["n"]
    assert await search.is_any_free(fresh.connection, Seeker("new", 1, vip=False, failed_on=[], barred_on=[]))
    assert await fresh.claim("t") == "n"


async def test_a_task_that_waits_since_a_time_to_come_is_served_and_ages(fresh: Life) -> None:
    await fresh.create("t")
    await fresh.do(f"UPDATE tasks SET waiting_since = {AHEAD}, created_at = {AHEAD}, failed_on = '{{n}}'")
    await aging.promote(fresh.connection, 600, limit=9)
    assert (await fresh.task("t")).promoted_at is not None
    await fresh.do("UPDATE tasks SET waiting_since = NULL")
    for gpu_id in ("n", "other"):
        await fresh.node(gpu_id, [1])
    await fresh.do("UPDATE gpus SET max_concurrent_tasks = 1, priority_queue = 'NORMAL'")
    await fresh.do(f"UPDATE tasks SET waiting_since = {AHEAD}")
    assert set(await free_nodes.with_unused_slots(fresh.connection)) == {"n", "other"}
    await node_state.assign_unused_slots(fresh.connection, "n")
    assert await fresh.running() == {"t": "n"}  # it avoids a node for 30 s, not for hours


async def test_the_end_of_an_open_attempt_comes(fresh: Life) -> None:
    for task_id in ("accepted", "claimed"):
        await fresh.node(task_id, [1])
        await fresh.create(task_id)
        await fresh.claim(task_id)
    await fresh.do(f"UPDATE attempts SET claimed_at = {AHEAD}")
    await fresh.do(f"UPDATE attempts SET accepted_at = {AHEAD} WHERE task_id = 'accepted'")
    await drift.set_right(fresh.connection)
    assert (
        await fresh.scalar("SELECT count(*) FROM attempts WHERE GREATEST(claimed_at, accepted_at) > clock_timestamp()")
        == 0
    )
    assert await fresh.scalar("SELECT count(accepted_at) FROM attempts") == 1
    due = await due_in_s(fresh.connection, "accepted", 1, Outcome.TIMED_OUT)
    assert due == pytest.approx(1, abs=1)  # its timeout is a second, which starts again
    await fresh.do(
        "UPDATE attempts SET accepted_at = accepted_at - interval '30 s', claimed_at = claimed_at - interval '300 s'"
    )
    found = await drift.expired(fresh.connection, 20, 60, 60)
    assert {row.task_id for row in found} == {"accepted", "claimed"}


async def test_the_reconciler_finds_what_is_dated_ahead(fresh: Life) -> None:
    await fresh.create("not started")
    await fresh.do(f"UPDATE outbox SET created_at = {AHEAD}")
    assert [row.task_id for row in await drift.not_started(fresh.connection, 5)] == ["not started"]

    await fresh.node("n", [2])
    await fresh.create("held", 2)
    await fresh.claim("held")
    await fresh.do(f"UPDATE attempts SET claimed_at = {AHEAD}")
    assert [row.task_id for row in await drift.undispatched(fresh.connection, 20)] == ["held"]
    await fresh.do(f"UPDATE attempts SET closed_at = {AHEAD}, outcome = 'FAILED'")
    (row,) = await drift.uncollected(fresh.connection, 5)
    assert (row.task_id, row.closed_for_s) == ("held", float("inf"))
    await fresh.do(f"UPDATE attempts SET collected_at = {AHEAD}")
    await fresh.do(f"UPDATE tasks SET updated_at = {AHEAD}, waiting_since = NULL")
    assert {row.task_id for row in await drift.forgotten(fresh.connection, 90)} == {"not started", "held"}
    assert len(await drift.next_round(fresh.connection, 20, 9)) == 2
    await fresh.do(f"UPDATE gpus SET status_since = {AHEAD}")
    assert [row.gpu_id for row in await drift.unattended(fresh.connection, 5)] == ["n"]


async def test_what_was_repaired_in_time_to_come_is_repaired_again(fresh: Life) -> None:
    await fresh.create("t")
    await fresh.do("UPDATE outbox SET created_at = clock_timestamp() - interval '1 min'")
    note = "INSERT INTO task_events VALUES ('t', 2, 'QUEUED', 'QUEUED', NULL, NULL, 'reconciler', 'r', {at})"
    await fresh.do(note.format(at="clock_timestamp()"))
    assert list(await drift.not_started(fresh.connection, 5)) == []
    await fresh.do(f"UPDATE task_events SET at = {AHEAD} WHERE seq = 2")
    assert len(await drift.not_started(fresh.connection, 5)) == 1
    await fresh.do(note.format(at="clock_timestamp()").replace("'t', 2", "'t', 3"))
    assert list(await drift.not_started(fresh.connection, 5)) == []  # and rests from then on


async def test_a_small_step_back_promotes_nobody(fresh: Life) -> None:
    await fresh.create("t")
    await fresh.do("UPDATE tasks SET waiting_since = clock_timestamp() + interval '5 s'")
    assert await aging.promote(fresh.connection, 600, limit=9) == 0


async def test_a_silent_node_keeps_its_tasks_for_one_grace(fresh: Life) -> None:
    await fresh.node("n", [1])
    await fresh.do(f"UPDATE gpus SET status = 'OFFLINE', status_since = {AHEAD}")
    node = await node_queries.get(fresh.connection, "n")
    assert node is not None
    nobody: Any = None
    assert NodeSteps(nobody, nobody, nobody, Settings())._hold_is_over(node)


async def test_health_and_durations_are_those_of_tasks_that_have_ended(fresh: Life) -> None:
    await fresh.node("n", [1])
    for task_id, outcome in (("before", Outcome.SUCCEEDED), ("ahead", Outcome.FAILED)):
        await fresh.create(task_id, max_retries=0)
        await fresh.claim(task_id)
        await fresh.end(task_id, outcome)
    await fresh.do(f"UPDATE tasks SET completed_at = {AHEAD} WHERE task_id = 'ahead'")
    assert (await health.read(fresh.connection, 15)).recent == {"COMPLETED": 1}


async def test_a_recount_is_due(fresh: Life) -> None:
    await counters.recount_later(fresh.connection)
    assert not await counters.recount_is_due(fresh.connection)
    await fresh.do(f"UPDATE monitor_reports SET at = {AHEAD}")
    assert await counters.recount_is_due(fresh.connection)


async def test_the_age_of_a_report_that_lies_ahead_is_not_zero(fresh: Life) -> None:
    assert await health.monitor_age_s(fresh.connection) is None
    await health.keep(fresh.connection, {})
    assert 0 <= (await health.monitor_age_s(fresh.connection) or 0.0) < 3600
    await fresh.do(f"UPDATE monitor_reports SET at = {AHEAD}")
    assert await health.monitor_age_s(fresh.connection) == math.inf


@pytest.mark.parametrize(
    ("at", "runs"), [(AHEAD, 1), ("clock_timestamp() - interval '2 h'", 1), ("clock_timestamp()", 0), (None, 0)]
)
async def test_the_leader_runs_a_monitor_whose_schedule_lies_ahead(
    fresh: Life, monkeypatch: pytest.MonkeyPatch, at: str | None, runs: int
) -> None:
    trigger = AsyncMock(side_effect=TemporalAway("not now"))
    monkeypatch.setattr(schedules, "trigger_monitor", trigger)
    late_monitor = LateMonitor(OneConnection(fresh.connection), MagicMock(), Settings())
    await health.keep(fresh.connection, {})
    await fresh.do(f"UPDATE monitor_reports SET at = {at}" if at else "TRUNCATE monitor_reports")
    await late_monitor.find()
    trigger.assert_not_called()  # it has only just begun
    monkeypatch.setattr(late_monitor, "_next", 0.0)
    await late_monitor.find()
    await late_monitor.find()
    assert trigger.await_count == runs
