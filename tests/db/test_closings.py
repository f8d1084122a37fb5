"""The end of an attempt notifies a dispatch that waits for it, on its channel, or else the task's workflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from infra.data_dir import embedded
from infra.db import attempts, closings
from infra.db.closings import Closings
from infra.db.connection import Connection
from infra.db.engine import Database
from infra.db.notifications import ClosedAttempt
from tests.conftest import eventually
from tests.db.listening import HELD, hears, held, listening, settle
from tests.db.sessions import Sessions
from workers.stack.stack import Stack
from workflows.domain.attempt import Outcome

NOTIFY = text("SELECT pg_notify(:channel, :name)")


@pytest.fixture
async def heard(stack: Stack) -> AsyncIterator[Closings]:
    async with listening(embedded.postgres_url(stack.data_dir, "of_the_tests")) as listener:
        yield listener


@pytest.fixture
async def database(engine: Sessions) -> AsyncIterator[Database]:
    async with held(engine) as found:
        yield found


async def accept(database: Database, channel: str | None) -> bool:
    return await database.single(lambda c: attempts.accept_dispatched(c, *HELD, channel))


async def give_up(database: Database, channel: str) -> bool:
    return await database.single(lambda c: closings.give_up(c, *HELD, channel))


async def hear_all(database: Database, listener: Closings) -> None:
    """Until all that was sent before has arrived."""
    with listener.expect("the last", 1) as heard:
        await database.run(lambda c: c.execute(NOTIFY, {"channel": listener.channel, "name": "the last 1"}))
        await asyncio.wait_for(heard.wait(), 5)


async def test_a_dispatch_that_waits_is_told_instead_of_the_workflow(database: Database, heard: Closings) -> None:
    with heard.expect(*HELD) as closed:
        assert await accept(database, heard.channel)
        assert (await settle(database)).closed == []
        await asyncio.wait_for(closed.wait(), 5)
    assert heard.expected == 0
    assert not await give_up(database, heard.channel)


async def test_without_one_the_workflow_is_to_be_signalled(database: Database, heard: Closings) -> None:
    with heard.expect(*HELD) as closed:
        assert await accept(database, None)
        assert (await settle(database)).closed == [ClosedAttempt(*HELD)]
        await hear_all(database, heard)
        assert not closed.is_set()


async def test_who_has_given_up_is_not_told(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await give_up(database, heard.channel)
    assert (await settle(database)).closed == [ClosedAttempt(*HELD)]


async def test_only_who_waits_gives_up(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert not await give_up(database, "an earlier one")
    assert (await settle(database)).closed == []


async def test_a_node_that_says_that_it_runs_it_changes_nothing(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await database.single(lambda c: attempts.accept(c, *HELD, actor="gpu:n"))
    assert (await settle(database)).closed == []


async def test_a_later_try_of_the_dispatch_waits_for_nothing(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await accept(database, None)
    assert (await settle(database)).closed == [ClosedAttempt(*HELD)]


async def test_nothing_is_told_of_what_is_rolled_back(database: Database, heard: Closings) -> None:
    async def settle_in_vain(connection: Connection) -> None:
        await attempts.settle(connection, *HELD, Outcome.FAILED, actor="gpu:n", reason="x")
        raise LookupError

    assert await accept(database, heard.channel)
    with heard.expect(*HELD) as closed:
        with pytest.raises(LookupError):
            await database.run(settle_in_vain)
        await hear_all(database, heard)
        assert not closed.is_set()
        await settle(database)
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_listener_that_is_cut_off_says_so_and_listens_again(database: Database, heard: Closings) -> None:
    cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = :listen")

    async def is_deaf() -> bool:
        return not heard.hears

    await database.run(lambda c: c.execute(cut, {"listen": f"LISTEN {heard.channel}"}))
    await eventually(is_deaf)
    await eventually(lambda: hears(heard))
    with heard.expect(*HELD) as closed:
        assert await accept(database, heard.channel)
        await settle(database)
        await asyncio.wait_for(closed.wait(), 5)
