"""Another priority, and the place in the queue that follows from it (ADR 0036)."""

from __future__ import annotations

import random

import pytest

from infra.db.queue import aging
from infra.db.slots import capacity
from infra.db.slots.eligibility import Wanted
from infra.db.tasks import timeline
from infra.db.transactions import accept_attempt, change_priority
from infra.db.transactions.change_priority import Share
from tests.db import rows
from tests.db.life import Life
from tests.db.test_order import busy, predicted_and_run, waiting
from workflows.domain import shares
from workflows.domain.attempt import Outcome
from workflows.domain.errors import NotInThisState
from workflows.domain.queue_policy import QueuePolicy
from workflows.notifications import Notifications

AT_ONCE = -1.0


async def change(life: Life, task_id: str, priority: int) -> Notifications:
    task = await life.task(task_id)
    seen = await capacity.read(life.connection, Wanted(task.task_type, vip=True))
    share = Share(shares.named(task.flow, task.app), life.weights.get(task.app, 1.0), seen.pool)
    return await change_priority.change(life.run, rows.CREATOR, task_id, task.task_type, priority, share)


async def outcomes(life: Life) -> list[str]:
    return [
        one.outcome for one in await life.connection.rows("SELECT outcome FROM audit_log WHERE action LIKE '%%prio%%'")
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_changed_the_order_shown_is_the_order_run(life: Life, seed: int) -> None:
    chance = random.Random(seed)
    life.weights = {"b": 2.0}
    await busy(life, types=(1, 2))
    names = [f"t{number:02}" for number in range(14)]
    for name in names:
        await waiting(
            life, name, task_type=chance.choice([1, 2]), app=chance.choice("abc"), priority=chance.choice([1, 2])
        )
    for round_ in range(10):
        if round_ == 5:
            await aging.promote(life.connection, AT_ONCE, limit=3)
        await change(life, chance.choice(names), chance.choice([0, 1, 2, 3]))
    await predicted_and_run(life, *names)


async def test_within_a_class_the_place_stays(life: Life) -> None:
    await busy(life)
    await waiting(life, "one", "two", priority=2)
    before = await life.task("two")
    await change(life, "two", 9)
    after = await life.task("two")
    assert (after.priority, after.queue_rank, after.waiting_since) == (9, before.queue_rank, before.waiting_since)
    assert await predicted_and_run(life, "one", "two") == ["one", "two"]


async def test_a_raised_task_waits_in_its_flow_s_turn(life: Life) -> None:
    """Ten that are raised behind three of another flow take turns with these, as ten new ones would."""
    await busy(life)
    await waiting(life, "few0", "few1", "few2", app="few", priority=2)
    many = [f"many{number}" for number in range(10)]
    await waiting(life, *many, app="many")
    for name in many:
        await change(life, name, 2)
    order = await predicted_and_run(life, *many, "few0", "few1", "few2")
    assert [name for name in order if name in many] == many
    assert sum(name in many for name in order[:6]) == 3


async def test_who_was_promoted_by_age_loses_nothing_by_a_higher_priority(life: Life) -> None:
    await busy(life)
    await waiting(life, "old")
    await aging.promote(life.connection, AT_ONCE, limit=1)
    await waiting(life, "vip1", "vip2", priority=2)
    before = await life.position("old")
    await change(life, "old", 0)
    lower = await life.task("old")
    assert (lower.queue_class, lower.promoted_at is None) == (1, False)
    await change(life, "old", 5)
    higher = await life.task("old")
    assert (higher.queue_class, higher.promoted_at) == (1, None)
    assert await life.position("old") <= before


async def test_a_lowered_task_goes_back_and_ages_by_its_whole_wait(life: Life) -> None:
    await busy(life)
    await waiting(life, "lowered", priority=2)
    await waiting(life, "normal")
    await change(life, "lowered", 1)
    assert ((await life.task("lowered")).queue_class, await life.position("lowered")) == (0, 2)
    await life.do("UPDATE tasks SET waiting_since = waiting_since - interval '1 h' WHERE task_id = 'lowered'")
    assert await aging.promote(life.connection, 1800, limit=9) == 1
    assert (await life.task("lowered")).promoted_at is not None


async def test_a_vip_node_that_is_free_takes_it_at_once(life: Life) -> None:
    life.connection.policy = QueuePolicy(vip_nodes_strict=True)
    await life.node("vip", [1], serves="VIP")
    await waiting(life, "normal")
    assert (await change(life, "normal", 0)).grants == []
    (granted,) = (await change(life, "normal", 2)).grants
    assert (granted.task.task_id, granted.task.priority, granted.task.waits, granted.grant.gpu_id) == (
        "normal",
        2,
        True,
        "vip",
    )
    assert await life.running() == {"normal": "vip"}


async def test_the_timeline_and_the_audit_log_say_who(life: Life) -> None:
    await waiting(life, "t")
    await change(life, "t", 3)
    await change(life, "t", 3)
    created, noted = await timeline.events(life.connection, "t", limit=9, offset=0)
    assert (noted.from_status, noted.to_status, noted.actor, noted.reason) == (
        "QUEUED",
        "QUEUED",
        "key:k",
        "优先级 1 → 3",
    )
    assert created.seq == 1
    assert await outcomes(life) == ["DONE", "UNCHANGED"]


async def test_a_task_with_a_slot_keeps_its_priority(life: Life) -> None:
    await life.node("n", [1])
    await life.create("t")
    assert await life.claim("t") == "n"
    await refused(life, "t")
    await accept_attempt.accept(life.connection, "t", 1, actor="test")
    assert (await life.task("t")).status == "PROCESSING"
    await refused(life, "t")
    await life.end("t")
    await refused(life, "t")


async def refused(life: Life, task_id: str) -> None:
    """A task refuses even the priority that it has."""
    for priority in (1, 3):
        with pytest.raises(NotInThisState):
            await change(life, task_id, priority)
    assert (await life.task(task_id)).priority == 1


async def test_a_task_that_pauses_before_a_retry_goes_on_pausing(life: Life) -> None:
    await life.node("n", [1])
    await life.create("t")
    await life.claim("t")
    await life.end("t", Outcome.FAILED, "boom")
    await life.wake()
    assert not (await change(life, "t", 3))
    task = await life.task("t")
    assert (task.priority, task.queue_class, task.waiting_since) == (3, 1, None)
    assert await life.claim("t") == "n"
