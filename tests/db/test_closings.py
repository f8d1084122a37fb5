"""Who is told that an attempt has closed: a dispatch that waits for it, on its channel, or else the task's workflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db import attempts, closings
from infra.db.closings import Closings
from infra.db.connection import Connection
from infra.db.engine import Database
from infra.db.wakeups import Wakeups
from tests.conftest import eventually
from tests.db import rows
from workers.stack import postgres
from workers.stack.stack import Stack
from workflows.domain.attempt import Outcome

HELD = ("held", 1)


@pytest.fixture
async def heard(stack: Stack) -> AsyncIterator[Closings]:
    """Listens to the database of these tests."""
    listener = Closings(postgres.url(stack.data_dir, "of_the_tests"))
    running = asyncio.create_task(listener.run())
    await eventually(lambda: hears(listener))
    yield listener
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def database(engine: AsyncEngine) -> AsyncIterator[Database]:
    """A task that holds a slot, to be dispatched."""
    found = Database(engine)

    async def begin(connection: Connection) -> None:
        await connection.execute(text(rows.EMPTY))
        await rows.node(connection, "n")
        await rows.task(connection, "held")
        await rows.attempt(connection, "held", gpu_id="n")

    await found.run(begin)
    yield found
    await found.run(lambda c: c.execute(text(rows.EMPTY)))


async def hears(listener: Closings) -> bool:
    return listener.hears


async def accept(database: Database, channel: str | None) -> bool:
    return await database.single(
        lambda c: attempts.accept(c, *HELD, actor="workflow", dispatched=True, watched_by=channel)
    )


async def settle(database: Database) -> Wakeups:
    settled = await database.run(
        lambda c: attempts.settle(c, *HELD, Outcome.SUCCEEDED, actor="gpu:n", result="{}", strict_vip=False)
    )
    assert settled is not None
    return settled


async def test_a_dispatch_that_waits_is_told_instead_of_the_workflow(database: Database, heard: Closings) -> None:
    with heard.expect(*HELD) as closed:
        assert await accept(database, heard.channel)
        assert (await settle(database)).settled == []
        await asyncio.wait_for(closed.wait(), 5)
    assert heard.expected == 0
    assert not await database.single(lambda c: closings.give_up(c, *HELD))


async def test_without_one_the_workflow_is_to_be_signalled(database: Database, heard: Closings) -> None:
    with heard.expect(*HELD) as closed:
        assert await accept(database, None)
        assert (await settle(database)).settled == [HELD]
        assert not closed.is_set()


async def test_who_has_given_up_is_not_told(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await database.single(lambda c: closings.give_up(c, *HELD))
    assert (await settle(database)).settled == [HELD]


async def test_a_node_that_says_that_it_runs_it_changes_nothing(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await database.single(lambda c: attempts.accept(c, *HELD, actor="gpu:n"))
    assert (await settle(database)).settled == []


async def test_a_later_try_of_the_dispatch_waits_for_nothing(database: Database, heard: Closings) -> None:
    assert await accept(database, heard.channel)
    assert await accept(database, None)
    assert (await settle(database)).settled == [HELD]


async def test_nothing_is_told_of_what_is_rolled_back(database: Database, heard: Closings) -> None:
    async def settle_in_vain(connection: Connection) -> None:
        await attempts.settle(connection, *HELD, Outcome.FAILED, actor="gpu:n", reason="x", strict_vip=False)
        raise LookupError

    assert await accept(database, heard.channel)
    with heard.expect(*HELD) as closed:
        with pytest.raises(LookupError):
            await database.run(settle_in_vain)
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
