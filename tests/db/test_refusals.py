"""A node turns a dispatch away: 409, 503, 400, 422. It may run it: the answer to an earlier PUT may have been lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.testing import ActivityEnvironment

from activities.dispatch import Dispatch
from activities.short_work import ShortWork
from infra.db.transactions import accept_attempt
from infra.nodes.answer import NodeAnswer
from infra.nodes.http import NodeUnreachable
from infra.settings import Settings
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workflows.messages import AttemptRef, Dispatched, DispatchResult

DONE = NodeAnswer(200, {"status": "succeeded", "output": {"n": 1}}, '{"n":1}')
REFUSALS = pytest.mark.parametrize("status", [409, 503, 400, 422])
REFUSED = {409, 503}
UNCLEAR = [NodeUnreachable("nobody"), NodeAnswer(503, {}), NodeAnswer(200, {})]


@pytest.fixture
async def granted(life: Life) -> Life:
    """A task that holds the slot of a node, and one that waits for it."""
    await life.node("n", [1])
    await life.create("t")
    assert await life.claim("t") == "n"
    await life.create("next")
    return life


async def dispatch(life: Life, status: int, known: Any, *, is_first: bool = False) -> Dispatched:
    """A try that is answered `status`; the node then says `known` of the attempt."""
    answers = {"put": AsyncMock(return_value=NodeAnswer(status, {})), "readiness": AsyncMock(return_value=None)}
    nodes = MagicMock(**answers, status=AsyncMock(side_effect=[known]))
    short_work = ShortWork(MagicMock(usual_s=AsyncMock(return_value=None)))
    step = Dispatch(OneConnection(life.connection), MagicMock(deliver=AsyncMock()), nodes, short_work, Settings())
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=is_first, scheduled_time=datetime.now(UTC))
    return await environment.run(step.dispatch, AttemptRef("t", 1))


async def attempt(life: Life) -> tuple[str | None, bool]:
    """Its outcome, and whether its slot is free."""
    (row,) = await life.connection.rows("SELECT outcome, released_at FROM attempts WHERE task_id = 't'")
    return row.outcome, row.released_at is not None


@REFUSALS
@pytest.mark.parametrize("known", [*UNCLEAR, NodeAnswer(404, {})], ids=str)
async def test_what_the_node_has_reported_to_run_goes_on(granted: Life, status: int, known: Any) -> None:
    await accept_attempt.accept(granted.connection, "t", 1, actor="gpu:n")
    assert await dispatch(granted, status, known) == Dispatched(DispatchResult.RUNNING)
    assert await granted.running() == {"t": "n"}
    assert (await granted.task("t")).status == "PROCESSING"


@REFUSALS
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("state", ["starting", "processing", "succeeded"])
async def test_what_the_node_has_goes_on(granted: Life, status: int, state: str, *, is_first: bool) -> None:
    """A first try of a run of the workflow may be a repeated one: an earlier run's worker may have died."""
    known = NodeAnswer(200, {"status": state})
    assert await dispatch(granted, status, known, is_first=is_first) == Dispatched(DispatchResult.RUNNING)
    assert (await granted.task("t")).status == "PROCESSING"


async def test_a_result_that_the_node_has_is_taken(granted: Life) -> None:
    assert await dispatch(granted, 503, DONE) == Dispatched(DispatchResult.CLOSED)
    assert await attempt(granted) == ("SUCCEEDED", True)


@REFUSALS
@pytest.mark.parametrize("known", UNCLEAR, ids=str)
async def test_where_it_stays_unclear_the_slot_is_held_for_the_stop(granted: Life, status: int, known: Any) -> None:
    assert await dispatch(granted, status, known) == Dispatched(DispatchResult.CLOSED)
    assert await attempt(granted) == (("UNREACHABLE", False) if status in REFUSED else ("REJECTED", True))
    assert await granted.running() == ({} if status in REFUSED else {"next": "n"})


async def test_a_failure_that_the_node_knows_of_counts(granted: Life) -> None:
    assert await dispatch(granted, 409, NodeAnswer(200, {"status": "failed"})) == Dispatched(DispatchResult.CLOSED)
    assert await attempt(granted) == ("FAILED", True)


@REFUSALS
@pytest.mark.parametrize(
    ("known", "is_first"),
    [(NodeAnswer(404, {}), False), *((one, True) for one in UNCLEAR)],
    ids=str,
)
async def test_a_node_that_does_not_run_it_is_believed(
    granted: Life, status: int, known: Any, *, is_first: bool
) -> None:
    assert await dispatch(granted, status, known, is_first=is_first) == Dispatched(DispatchResult.CLOSED)
    assert await attempt(granted) == ("REFUSED" if status in REFUSED else "REJECTED", True)


async def test_a_node_that_does_not_say_delays_the_end_by_a_moment(
    granted: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: Any) -> NodeAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("activities.dispatch_answers.ASK_S", 0.01)
    monkeypatch.setattr("activities.dispatch_answers.ask", hangs)
    assert await dispatch(granted, 503, None) == Dispatched(DispatchResult.CLOSED)
    assert await attempt(granted) == ("UNREACHABLE", False)
