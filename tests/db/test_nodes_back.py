"""The stops on a node that is back: bounded in time, so that the node gets work and the step ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.testing import ActivityEnvironment

from activities import nodes
from activities.nodes import NodeSteps
from infra.db.attempts import open_attempts
from infra.db.nodes import queries as node_queries
from infra.db.transactions import accept_attempt, node_state, release_attempt
from infra.nodes.answer import NodeAnswer
from infra.nodes.http import NodeUnreachable
from infra.settings import Settings
from tests.db.life import Life
from tests.db.one_connection import OneConnection


@pytest.fixture
async def back(life: Life) -> Life:
    """A node that is back. Its attempt was closed by a cancel of the task, and nobody could ask it to stop."""
    await life.node("n", [1])
    await life.create("t", claims_slot=True)
    await life.do(
        "UPDATE attempts SET outcome = 'TASK_ENDED', closed_at = clock_timestamp() - interval '1 min',"
        " claimed_at = claimed_at - interval '1 h'"
    )
    await release_attempt.record(life.connection, 10)
    await life.do("UPDATE gpus SET status = 'OFFLINE'")
    await node_state.come_back(life.connection, "n")
    return life


async def confirm(life: Life, cancel: Callable[..., Awaitable[NodeAnswer]]) -> None:
    gateway = MagicMock(deliver=AsyncMock())
    steps = NodeSteps(OneConnection(life.connection), gateway, MagicMock(cancel=cancel), Settings())
    await ActivityEnvironment().run(steps.confirm_attempts, "n")


async def is_back(life: Life) -> bool:
    node = await node_queries.get(life.connection, "n")
    assert node is not None
    return node.is_back


async def test_it_is_asked_to_stop_what_was_cancelled_while_it_was_cut_off(back: Life) -> None:
    cancel = AsyncMock(return_value=NodeAnswer(200, {"stopped": True}))
    await confirm(back, cancel)
    assert cancel.await_args is not None
    assert cancel.await_args.args[1] == "t-1"
    assert await back.scalar("SELECT not_before FROM gpus") is None
    assert not await is_back(back)


@pytest.mark.parametrize(
    "first", [NodeUnreachable("silent"), NodeAnswer(500, {}), NodeAnswer(200, {"stopped": False})], ids=str
)
async def test_it_is_asked_until_it_says_that_it_has_stopped(
    back: Life, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.setattr(nodes, "ASK_AGAIN_S", 0.0)
    await confirm(back, AsyncMock(side_effect=[first, first, NodeAnswer(200, {"stopped": True})]))
    assert await back.scalar("SELECT not_before FROM gpus") is None
    assert not await is_back(back)


async def test_one_that_registers_again_meanwhile_is_asked_once_more(back: Life) -> None:
    """The stops of the process before say nothing of the next one."""

    async def registers(*_: object) -> NodeAnswer:
        await back.node("n", [1])
        return NodeAnswer(200, {"stopped": True})

    await confirm(back, registers)
    assert await is_back(back)
    assert await back.scalar("SELECT not_before > clock_timestamp() FROM gpus") is True


async def test_one_that_was_faulty_for_a_moment_is_asked_too(back: Life) -> None:
    """Its workflow has seen neither the fault nor the recovery."""
    await back.do("UPDATE gpus SET attended_epoch = epoch, attended_status = status")
    await node_state.fault(back.connection, "n", "fan")
    await node_state.recover(back.connection, "n")
    assert await is_back(back)


async def test_an_attempt_of_a_later_registration_is_not_adopted_by_an_earlier_one(life: Life) -> None:
    """The node may have registered again while it was asked."""
    await life.node("n", [1])
    await life.node("n", [1])
    await life.create("t", claims_slot=True)
    await open_attempts.adopt(life.connection, "t", 1, epoch=1)
    assert await life.scalar("SELECT gpu_epoch FROM attempts") == 2


@pytest.fixture
async def busy(back: Life) -> Life:
    """It still runs an attempt, as it is known to, and another task waits for its second slot."""
    await back.do("UPDATE gpus SET max_concurrent_tasks = 2, not_before = NULL")
    await back.create("running", claims_slot=True)
    await back.do("UPDATE gpus SET not_before = clock_timestamp() + interval '9 s'")
    await back.create("waiting", claims_slot=True)
    assert await back.running() == {"running": "n"}
    return back


async def test_a_success_does_not_end_the_wait_for_stops(busy: Life) -> None:
    await busy.do("UPDATE gpus SET task_failure_count = 1")
    await busy.end("running")
    assert await busy.running() == {}
    await confirm(busy, AsyncMock(return_value=NodeAnswer(200, {"stopped": True})))
    assert await busy.running() == {"waiting": "n"}


async def test_an_accepted_dispatch_does_not_end_the_wait_for_stops(busy: Life) -> None:
    await busy.do("UPDATE gpus SET failure_count = 1")
    await accept_attempt.accept(busy.connection, "running", 1, actor="test")
    assert await busy.scalar("SELECT (failure_count, not_before > clock_timestamp()) = (0, true) FROM gpus") is True


async def test_a_recover_does_not_end_the_wait_for_stops(busy: Life) -> None:
    await busy.do("UPDATE gpus SET task_failure_count = 1")
    await node_state.recover(busy.connection, "n")
    assert (await busy.gpu("n")).task_failure_count == 0
    assert await busy.running() == {"running": "n"}


async def test_one_that_never_answers_is_given_up_in_time(back: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "STOPS_S", 0.01)

    async def never(*_: object) -> NodeAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(10):
        await confirm(back, never)
    assert not await is_back(back)
    assert await back.scalar("SELECT not_before > clock_timestamp() FROM gpus") is True  # until `HELD_S` is over
