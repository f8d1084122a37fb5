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
from infra.db.nodes import queries as node_queries
from infra.db.transactions import node_state, release_attempt
from infra.nodes.answer import Answer
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


async def confirm(life: Life, cancel: Callable[..., Awaitable[Answer]]) -> None:
    gateway = MagicMock(deliver=AsyncMock())
    steps = NodeSteps(OneConnection(life.connection), gateway, MagicMock(cancel=cancel), Settings())
    await ActivityEnvironment().run(steps.confirm_attempts, "n")


async def is_back(life: Life) -> bool:
    node = await node_queries.get(life.connection, "n")
    assert node is not None
    return node.is_back


async def test_it_is_asked_to_stop_what_was_cancelled_while_it_was_cut_off(back: Life) -> None:
    cancel = AsyncMock(return_value=Answer(200, {"stopped": True}))
    await confirm(back, cancel)
    assert cancel.await_args is not None
    assert cancel.await_args.args[1] == "t-1"
    assert await back.scalar("SELECT not_before FROM gpus") is None
    assert not await is_back(back)


@pytest.mark.parametrize(
    "first", [NodeUnreachable("silent"), Answer(500, {}), Answer(200, {"stopped": False})], ids=str
)
async def test_it_is_asked_until_it_says_that_it_has_stopped(
    back: Life, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.setattr(nodes, "ASK_AGAIN_S", 0.0)
    await confirm(back, AsyncMock(side_effect=[first, first, Answer(200, {"stopped": True})]))
    assert await back.scalar("SELECT not_before FROM gpus") is None
    assert not await is_back(back)


async def test_one_that_never_answers_is_given_up_in_time(back: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "STOPS_S", 0.01)

    async def never(*_: object) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(10):
        await confirm(back, never)
    assert not await is_back(back)
    assert await back.scalar("SELECT not_before > clock_timestamp() FROM gpus") is True  # until `HELD_S` is over
