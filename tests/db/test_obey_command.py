"""A person's command to a node: the REST call's transaction, once for each signal, in the order of the commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.db.access import audit
from infra.db.nodes import queries as node_queries
from infra.db.session import Database
from infra.db.transactions import change_node, node_state, obey_command
from tests.db import rows
from workflows.domain.command import Command
from workflows.domain.errors import GpuNotFound
from workflows.messages import NodeCommand
from workflows.notifications import Notifications

NODE = node_queries.Registration("n1", "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 1, {}, None, None)


@pytest.fixture(autouse=True)
async def node(database: Database) -> AsyncIterator[None]:
    await database.run(lambda c: c.execute(rows.EMPTY))
    await database.run(lambda c: node_state.register(c, NODE))
    yield
    await database.run(lambda c: c.execute(rows.EMPTY))


async def obey(database: Database, command: Command, signal: str, reason: str = "ECC") -> Notifications:
    one = NodeCommand("n1", command, reason, signal)
    return await database.run(lambda c: obey_command.obey(c, one))


async def recover(database: Database) -> Notifications:
    return await database.run(lambda c: node_state.recover(c, "n1"))


async def recorded(database: Database) -> list[tuple[Any, ...]]:
    found, _ = await database.run(lambda c: audit.page(c, {}, limit=100, offset=0))
    return [(one.key_id, one.owner, one.role, str(one.action), one.detail, one.outcome) for one in reversed(found)]


async def status(database: Database) -> str:
    node = await database.run(lambda c: node_queries.status_of(c, "n1"))
    assert node is not None
    return node.status


async def alerts(database: Database) -> list[int]:
    """How often each alert has been counted."""
    return await database.run(lambda c: c.all(int, "SELECT count FROM alerts"))


async def test_a_command_moves_the_node_and_is_recorded_with_its_signal(database: Database) -> None:
    assert await obey(database, Command.FAULT, "run/1", "ECC\n\x1b[31m \ud800")
    assert await status(database) == "FAULTY"
    assert await obey(database, Command.RECOVER, "run/2", "")
    assert await status(database) == "ACTIVE"
    assert await recorded(database) == [
        ("temporal:run/1", "temporal", None, "gpu.fault", "ECC [31m", "DONE"),
        ("temporal:run/2", "temporal", None, "gpu.recover", obey_command.NO_REASON, "DONE"),
    ]


async def test_what_changes_nothing_is_recorded_as_that(database: Database) -> None:
    await obey(database, Command.FAULT, "run/1")
    assert not await obey(database, Command.FAULT, "run/2")
    assert [entry[-1] for entry in await recorded(database)] == ["DONE", "UNCHANGED"]
    assert await alerts(database) == [1]


async def test_one_that_is_tried_again_after_its_commit_does_nothing(database: Database) -> None:
    """The second try is not a second fault, even if the node was recovered in between."""
    await obey(database, Command.FAULT, "run/1")
    await recover(database)
    assert not await obey(database, Command.FAULT, "run/1")
    assert await status(database) == "ACTIVE"
    assert (len(await recorded(database)), await alerts(database)) == (1, [1])


async def test_tries_at_once_count_once(database: Database) -> None:
    tries = [obey(database, Command.FAULT, "run/1") for _ in range(4)]
    assert [bool(one) for one in await asyncio.gather(*tries)].count(True) == 1
    assert (len(await recorded(database)), await alerts(database)) == (1, [1])


async def test_a_fault_and_a_recover_under_way_count_in_the_order_of_their_commits(database: Database) -> None:
    await obey(database, Command.FAULT, "run/1")
    holds, goes_on = asyncio.Event(), asyncio.Event()

    async def recover_slowly(connection: Any) -> Notifications:
        done = await node_state.recover(connection, "n1")
        holds.set()
        await goes_on.wait()
        return done

    first = asyncio.create_task(database.run(recover_slowly))
    await holds.wait()
    second = asyncio.create_task(obey(database, Command.FAULT, "run/2"))
    await asyncio.wait((second,), timeout=0.3)
    assert not second.done()
    goes_on.set()
    assert await first
    assert await second
    assert await status(database) == "FAULTY"
    assert [entry[0] for entry in await recorded(database)] == ["temporal:run/1", "temporal:run/2"]


async def test_of_a_node_that_has_gone_nothing_is_written(database: Database) -> None:
    await database.run(lambda c: node_state.deregister(c, "n1"))
    for command in Command:
        with pytest.raises(GpuNotFound):
            await obey(database, command, "run/1")
    assert await recorded(database) == []


def test_every_command_is_known() -> None:
    assert set(change_node.COMMANDS) == set(Command)


async def drain(database: Database, signal: str, deadline_ms: int | None = None) -> tuple[Any, ...] | None:
    """The drain that the node shows after it was asked for."""
    one = NodeCommand("n1", Command.DRAIN, "fan", signal, deadline_ms)
    await database.run(lambda c: obey_command.obey(c, one))
    node = await database.run(lambda c: node_queries.get(c, "n1"))
    assert node is not None
    return node.drain and (node.drain.by, node.drain.reason, node.drain.deadline)


async def test_a_drain_and_its_end(database: Database) -> None:
    deadline = datetime(2100, 1, 1, tzinfo=UTC)
    assert await drain(database, "run/1", int(deadline.timestamp()) * 1000) == ("temporal", "fan", deadline)
    await obey(database, Command.UNDRAIN, "run/2", "replaced")
    assert await drain(database, "run/1") is None  # tried again after its commit
    assert [entry[3:] for entry in await recorded(database)] == [
        ("gpu.drain", "fan", "DONE"),
        ("gpu.undrain", "replaced", "DONE"),
    ]


async def test_a_deadline_that_has_passed_is_ignored(database: Database) -> None:
    assert await drain(database, "run/1", 1703123456) == ("temporal", "fan", None)
