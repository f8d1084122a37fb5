"""A new task takes a free slot in the transaction that creates it (ADR 0015)."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db import capacity, creation, queue
from infra.db.capacity import Capacity
from infra.db.creation import Created, NewTask
from tests.db import rows
from tests.db.life import Life

VIP, NORMAL = 2, 1


@pytest.fixture
def life(connection: AsyncConnection) -> Life:
    return Life(connection)


async def create(
    life: Life, task_id: str, *, priority: int = NORMAL, key: str | None = None, seen: Capacity | None = None
) -> Created:
    task = NewTask(task_id, 1, "u", "a", priority, priority - 1, "{}", None, 1000, 3, None, "k", key, key)
    seen = seen or await capacity.read(life.connection, 1)
    return await creation.create(life.connection, task, seen, weight=1.0, by=rows.CREATOR, strict_vip=life.strict_vip)


async def test_it_gets_the_free_slot_and_is_still_an_outbox_entry(life: Life) -> None:
    await life.node("n", [1])
    created = await create(life, "new")
    assert created.grant is not None
    assert (created.grant.attempt, created.grant.gpu_id, created.waits_briefly) == (1, "n", False)
    assert await life.running() == {"new": "n"}
    task = await life.task("new")
    assert (task.status, task.attempts, task.waiting_since, task.engine_started_at) == ("QUEUED", 1, None, None)
    assert await life.claim("new") == "n"  # what its workflow finds where it was not told
    assert (await life.task("new")).engine_started_at is not None


async def test_the_least_loaded_node_is_chosen(life: Life) -> None:
    await life.node("big", [1], slots=4)
    await life.node("small", [1], slots=1)
    places = [(await create(life, f"t{number}")).grant for number in range(5)]
    assert sorted(grant.gpu_id for grant in places if grant) == ["big"] * 4 + ["small"]
    assert (await create(life, "sixth")).grant is None


async def test_a_better_task_that_waits_gets_it_first(life: Life) -> None:
    await life.create("vip", priority=VIP)
    await rows.node(life.connection, "n", task_types=[1])  # free, and nobody has looked yet
    created = await create(life, "new")
    assert created.grant is None
    assert [(one.task_id, one.grant.gpu_id) for one in created.others] == [("vip", "n")]
    assert (await life.task("new")).waiting_since is not None


async def test_it_does_not_look_where_nothing_is_known_to_be_free(life: Life) -> None:
    seen = await capacity.read(life.connection, 1)
    await life.node("n", [1])
    assert (await create(life, "new", seen=seen)).grant is None
    assert await life.claim("new") == "n"  # its workflow looks for itself


async def test_behind_short_work_it_makes_sure(life: Life) -> None:
    await life.node("n", [1])
    seen = Capacity(rows.ALL_TAKEN, [1], [], 0.1)  # true a moment ago
    assert (await create(life, "new", seen=seen)).grant is not None
    late = await create(life, "late", seen=seen)
    assert (late.grant, late.waits_briefly) == (None, True)


async def test_with_the_engine_away_it_claims_nothing(life: Life) -> None:
    await life.node("n", [1])
    await life.create("new", claims_slot=False)
    assert await life.running() == {}


async def test_a_repeated_request_claims_nothing_more(life: Life) -> None:
    await life.node("n", [1], slots=2)
    first = await create(life, "first", key="once")
    again = await create(life, "again", key="once")
    assert (again.is_new, again.row.task_id, again.grant) == (False, "first", None)
    assert first.grant is not None
    assert await life.running() == {"first": "n"}


async def test_a_vip_node_is_left_to_vip_work_where_that_is_strict(life: Life) -> None:
    life.strict_vip = True
    await life.node("vip", [1], serves="VIP")
    assert (await create(life, "normal", seen=Capacity(rows.ONE_FREE, [1], [], 1.0))).grant is None
    assert (await create(life, "urgent", priority=VIP)).grant is not None


async def test_far_back_the_estimate_needs_no_count(life: Life) -> None:
    for number in range(6):
        await life.create(f"t{number}")
    milestones = await queue.milestones(life.connection, 1, every=2)
    seen = Capacity(rows.ALL_TAKEN, [1], [], 10.0)
    counted = await create(life, "counted", seen=seen)
    task = NewTask("estimated", 1, "u", "a", NORMAL, 0, "{}", None, 1000, 3, None, "k", None, None)
    estimated = await creation.create(
        life.connection, task, seen, weight=1.0, by=rows.CREATOR, strict_vip=False, standing={1: milestones}
    )
    assert not counted.far_back
    assert estimated.row.estimated_wait_s == pytest.approx(counted.row.estimated_wait_s, abs=10.0)
