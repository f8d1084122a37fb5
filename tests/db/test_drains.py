"""Draining nodes on the database: what they are given, what is said of them, and what is assigned at the end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.db.access.callers import Caller
from infra.db.nodes import drains
from infra.db.nodes import queries as node_queries
from infra.db.nodes.drains import Drain
from infra.db.session import Database
from infra.db.transactions import change_node, claim_slot, collect_attempt, node_state, release_attempt
from tests.db import rows
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.command import Command
from workflows.domain.errors import GpuNotFound
from workflows.domain.role import Role
from workflows.domain.task import TaskStatus

FAN = Drain("ops", "fan")
HOUR = timedelta(hours=1)
OPERATOR = Caller("key_o", Role.OPERATOR, "ops", "key_o")
NODE_KEY = Caller("key_n", Role.NODE, "node", "k")
NODE = node_queries.Registration("n", "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 4, {}, None, None)


async def drain(life: Life, gpu_id: str) -> Any:
    return await node_state.drain(life.connection, gpu_id, FAN)


async def test_a_draining_node_gets_nothing_new_and_ends_what_it_has(life: Life) -> None:
    await life.node("n", [1], slots=2)
    await life.create("first")
    assert await life.claim("first") == "n"
    await drain(life, "n")
    await life.create("second")
    assert await life.claim("second") is None
    await life.end("first")
    assert await life.running() == {}
    assert not await node_state.assign_unused_slots(life.connection, "n")


async def test_undrain_hands_over_in_its_transaction(life: Life) -> None:
    await life.node("n", [1], slots=2)
    await drain(life, "n")
    for task in ("first", "second", "third"):
        await life.create(task)
        assert await life.claim(task) is None
    notifications = await node_state.undrain(life.connection, "n")
    assert [one.task.task_id for one in notifications.grants] == ["first", "second"]
    assert await life.running() == {"first": "n", "second": "n"}
    assert not await node_state.undrain(life.connection, "n")


async def test_another_node_goes_first_and_alone(life: Life) -> None:
    """A task that a draining node has rejected or failed is not kept for it."""
    await life.node("a", [1])
    await life.node("b", [1])
    await drain(life, "a")
    await life.create("task")
    assert await life.claim("task") == "b"
    await life.end("task", Outcome.FAILED)
    assert await life.claim("task") == "b"  # there is no other that it could avoid


async def test_the_explanation_names_draining_nodes_and_their_slots_count_for_nothing(life: Life) -> None:
    await life.node("a", [1])
    await life.node("b", [1])
    await drain(life, "a")
    await life.create("first")
    await life.claim("first")
    await life.create("second", claims_slot=False)
    await life.claim("second")
    assert await life.waits_for("second") == "2 nodes: 1 full, 1 draining"
    assert await life.create("third") >= 0
    await drain(life, "b")
    assert await life.waits_for("second") == "2 nodes: 2 draining"
    assert await life.create("fourth") == -1  # unknown: no node that works serves the type


async def test_types_that_share_a_draining_node_alone_do_not_stand_in_each_others_way(life: Life) -> None:
    await life.node("both", [1, 2])
    await drain(life, "both")
    await life.node("own", [2])
    await life.create("of one", 1)
    await life.claim("of one")
    for task in ("running", "waiting"):
        await life.create(task, 2)
        await life.claim(task)
    assert await life.position("waiting") == 1


async def test_a_drain_shows_its_beginning_and_its_last_reason(life: Life) -> None:
    await life.node("n", [1])
    await life.create("task")
    await life.claim("task")
    assert await drain(life, "n")
    assert not await drain(life, "n")
    first = await node_queries.get(life.connection, "n")
    deadline = datetime.now(UTC) + timedelta(hours=1)
    assert await node_state.drain(life.connection, "n", Drain("else", "disk", deadline))
    again = await node_queries.get(life.connection, "n")
    assert first is not None
    assert first.drain is not None
    assert again is not None
    assert first.drain[:1] + first.drain[2:] == ("ops", "fan", None, 1)
    assert again.drain == ("else", first.drain.since, "disk", deadline, 1)
    await node_state.undrain(life.connection, "n")
    ended = await node_queries.get(life.connection, "n")
    assert ended is not None
    assert (ended.draining, ended.drain) == (False, None)


@pytest.mark.parametrize(
    ("before_h", "said_h", "after_h"), [(1, None, 1), (1, 2, 1), (2, 1, 1), (None, 1, 1), (None, None, None)]
)
async def test_a_node_only_brings_the_deadline_of_an_operator_s_drain_forward(
    life: Life, before_h: int | None, said_h: int | None, after_h: int | None
) -> None:
    begin = datetime.now(UTC).replace(microsecond=0)

    async def says(by: Caller, reason: str, hours: int | None) -> Any:
        ms = None if hours is None else round((begin + timedelta(hours=hours)).timestamp() * 1000)
        notifications = await change_node.carry_out(life.connection, by, Command.DRAIN, "n", reason, ms)
        found = await node_queries.get(life.connection, "n")
        assert found is not None
        assert found.drain is not None
        ends = found.drain.deadline
        return found.drain.by, found.drain.reason, None if ends is None else (ends - begin) / HOUR, bool(notifications)

    await life.node("n", [1])
    assert await says(OPERATOR, "fan", before_h) == ("ops", "fan", before_h, True)
    assert await says(NODE_KEY, "mine", said_h) == ("ops", "fan", after_h, after_h != before_h)
    assert await says(OPERATOR, "disk", None) == ("ops", "disk", None, True)


async def test_a_node_changes_its_own_drain_as_it_likes(life: Life) -> None:
    await life.node("n", [1])
    for reason, deadline in (("first", datetime.now(UTC) + HOUR), ("second", None)):
        assert await node_state.drain(life.connection, "n", Drain("node", reason, deadline, by_node=True))
        found = await node_queries.get(life.connection, "n")
        assert found is not None
        assert found.drain is not None
        assert (found.drain.by, found.drain.reason, found.drain.deadline) == ("node", reason, deadline)


async def test_an_unknown_node_neither_drains_nor_ends_that(life: Life) -> None:
    with pytest.raises(GpuNotFound):
        await drain(life, "nobody")
    with pytest.raises(GpuNotFound):
        await node_state.undrain(life.connection, "nobody")


async def test_an_offline_node_that_drains_comes_back_and_gets_nothing(life: Life) -> None:
    await life.node("n", [1])
    await life.do("UPDATE gpus SET status = 'OFFLINE'")
    await drain(life, "n")
    await life.create("task")
    await node_state.come_back(life.connection, "n")
    assert (await life.gpu("n")).status == "ACTIVE"
    assert await life.claim("task") is None
    await node_state.fault(life.connection, "n", "ECC")
    await node_state.recover(life.connection, "n")
    assert await life.claim("task") is None


@pytest.mark.parametrize(("deadline_s", "handed_back"), [(-1, True), (3600, False), (None, False)])
async def test_at_its_deadline_what_runs_is_handed_back(
    life: Life, deadline_s: float | None, handed_back: bool
) -> None:
    await life.node("n", [1], slots=2)
    for task in ("first", "second"):
        await life.create(task, max_retries=0)
        await life.claim(task)
    deadline = None if deadline_s is None else datetime.now(UTC) + timedelta(seconds=deadline_s)
    await node_state.drain(life.connection, "n", Drain("ops", "fan", deadline))
    assert await drains.overdue(life.connection) == (["n"] if handed_back else [])
    notifications = await node_state.hand_back(life.connection, "n")
    assert bool(notifications) is handed_back
    assert await life.running() == ({} if handed_back else {"first": "n", "second": "n"})
    if not handed_back:
        return
    assert sorted(one.task_id for one in notifications.closed) == ["first", "second"]
    for one in notifications.closed:
        collected = await collect_attempt.collect(life.connection, one.task_id, one.attempt)
        assert (collected.outcome, collected.status, collected.pause_s) == (Outcome.DRAINED, TaskStatus.QUEUED, 0)
        task = await life.task(one.task_id)
        assert (task.status, task.retry_count) == ("QUEUED", 0)
        await release_attempt.release(life.connection, one.task_id, one.attempt)  # the node has stopped it
    node = await life.gpu("n")
    assert (node.failure_count, node.task_failure_count, node.hand_backs, node.not_before) == (0, 0, 0, None)
    await node_state.undrain(life.connection, "n")
    assert await life.claim("first") == "n"


async def test_an_undrain_that_comes_first_leaves_them(life: Life) -> None:
    await life.node("n", [1])
    await life.create("task")
    await life.claim("task")
    await node_state.drain(life.connection, "n", Drain("ops", "fan", datetime.now(UTC)))
    await node_state.undrain(life.connection, "n")
    assert not await node_state.hand_back(life.connection, "n")
    assert await life.running() == {"task": "n"}


async def test_after_a_drain_s_commit_nothing_is_claimed(database: Database) -> None:
    """While 200 tasks are created at once the node drains, and is undrained, three times."""
    await database.run(lambda c: c.execute(rows.EMPTY))
    await database.run(lambda c: node_state.register(c, NODE))

    async def finish(task_id: str) -> None:
        await rows_of(database, task_id)
        await claim_slot.claim(database.run, task_id)

    async def claims() -> int:
        return await database.run(lambda c: c.one(int, "SELECT count(*) FROM attempts"))

    async def toggle() -> None:
        for _ in range(3):
            await database.run(lambda c: node_state.drain(c, "n", FAN))
            before = await claims()
            await database.run(lambda c: c.execute("UPDATE attempts SET closed_at = clock_timestamp(),"
                                                   " released_at = clock_timestamp(), outcome = 'LOST',"
                                                   " collected_at = clock_timestamp()"
                                                   " WHERE closed_at IS NULL"))  # fmt: skip
            await asyncio.sleep(0.05)
            assert await claims() == before
            await database.run(lambda c: node_state.undrain(c, "n"))
            await asyncio.sleep(0.05)

    await asyncio.gather(toggle(), *(finish(f"t{n}") for n in range(200)))
    assert await claims() > 4
    await database.run(lambda c: c.execute(rows.EMPTY))


async def rows_of(database: Database, task_id: str) -> None:
    await database.run(lambda c: rows.task(c, task_id))
