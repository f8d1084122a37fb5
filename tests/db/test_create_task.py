"""A new task takes a free slot in the transaction that creates it (ADR 0015)."""

from __future__ import annotations

from typing import Any

import pytest

from infra.db.queue import position
from infra.db.slots import capacity
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.tasks import outbox
from infra.db.transactions import create_task
from infra.db.transactions.create_task import Created
from tests.db import rows
from tests.db.life import Life
from workflows.domain.queue_policy import QueuePolicy

VIP, NORMAL = 2, 1


async def create(
    life: Life,
    task_id: str,
    *,
    priority: int = NORMAL,
    key: str | None = None,
    seen: Capacity | None = None,
    outlook: Outlook | None = None,
    app: str = "a",
    **options: Any,
) -> Created:
    task = rows.new_task(
        task_id, app=app, priority=priority, queue_class=priority - 1, idempotency_key=key, request_hash=key
    )
    outlook = outlook or Outlook(seen or await capacity.read(life.connection, Wanted(1, vip=True)))
    return await create_task.create(life.connection, task, outlook, weight=1.0, by=rows.CREATOR, **options)


async def test_it_gets_the_free_slot_and_an_entry_in_the_outbox(life: Life) -> None:
    await life.node("n", [1])
    created = await create(life, "new")
    assert created.grant is not None
    assert (created.grant.attempt, created.grant.gpu_id, created.waits) == (1, "n", False)
    assert await life.running() == {"new": "n"}
    task = await life.task("new")
    assert (task.status, task.attempts, task.waiting_since) == ("QUEUED", 1, None)
    assert await life.claim("new") == "n"  # what its workflow finds if no grant arrived
    assert await life.scalar("SELECT count(*) FROM outbox WHERE task_id = 'new'") == 1
    await outbox.clear(life.connection, ["new"])
    assert await life.scalar("SELECT count(*) FROM outbox WHERE task_id = 'new'") == 0


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
    assert [(one.task.task_id, one.grant.gpu_id) for one in created.others] == [("vip", "n")]
    assert (await life.task("new")).waiting_since is not None


@pytest.mark.parametrize("seen", [rows.ALL_TAKEN, rows.ONE_FREE])
async def test_whatever_was_true_a_moment_ago_it_makes_sure(life: Life, seen: Nodes) -> None:
    await life.node("n", [1])
    capacity_seen = Capacity(seen, [1], [], 0.1)
    first = await create(life, "first", seen=capacity_seen)
    assert (first.grant is not None, first.waits) == (True, False)
    late = await create(life, "late", seen=capacity_seen)
    assert (late.grant, late.waits) == (None, True)


async def test_where_there_is_no_node_it_waits(life: Life) -> None:
    assert (await create(life, "new")).waits


async def test_it_claims_nothing_where_it_is_not_to(life: Life) -> None:
    await life.node("n", [1])
    assert (await create(life, "new", claims_slot=False)).grant is None
    assert await life.running() == {}


async def test_a_repeated_request_claims_nothing_more(life: Life) -> None:
    await life.node("n", [1], slots=2)
    first = await create(life, "first", key="once")
    again = await create(life, "again", key="once")
    assert (again.row.task_id, again.grant) == ("first", None)
    assert first.grant is not None
    assert await life.running() == {"first": "n"}


async def test_a_vip_node_is_left_to_vip_work_where_that_is_strict(life: Life) -> None:
    life.connection.policy = QueuePolicy(vip_nodes_strict=True)
    await life.node("vip", [1], serves="VIP")
    assert (await create(life, "normal", seen=Capacity(rows.ONE_FREE, [1], [], 1.0))).grant is None
    assert (await create(life, "urgent", priority=VIP)).grant is not None


async def long_queue(life: Life, found: list[str]) -> Outlook:
    """Twenty tasks of the app `long` wait, each of which takes ten seconds; how a process knows them.

    `found` gets a word for each new task that finds the queue long.
    """
    for number in range(20):
        await life.create(f"t{number}", app="long")
    known = {1: await position.milestones(life.connection, 1, every=4)}
    return Outlook(Capacity(rows.ALL_TAKEN, [1], [], 10.0), known, lambda: found.append("long"))


async def test_far_back_the_estimate_comes_from_milestones(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position, "COUNTED", 5)
    found: list[str] = []
    last = await create(life, "last", app="long", outlook=await long_queue(life, found))
    assert found == ["long"]
    assert last.row.estimated_wait_s == 180  # 16 up to the last milestone, and half of the four from there


async def test_near_the_head_the_estimate_is_counted(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position, "COUNTED", 5)
    found: list[str] = []
    head = await create(life, "head", app="other", outlook=await long_queue(life, found))
    assert (head.row.estimated_wait_s, found) == (10, [])  # one before it, by the order of the queue


async def test_a_slot_that_is_there_is_no_wait(life: Life) -> None:
    await life.node("n", [1])
    seen = Capacity(rows.ALL_TAKEN, [1], [3.0], 3.0)  # true a moment ago
    assert (await create(life, "new", seen=seen)).row.estimated_wait_s == 0


async def test_a_repeated_request_may_start_what_was_never_started(life: Life) -> None:
    assert (await create(life, "first", key="once")).unstarted
    assert (await create(life, "again", key="once")).unstarted
    await outbox.clear(life.connection, ["first"])
    assert not (await create(life, "again", key="once")).unstarted
