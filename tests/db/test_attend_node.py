"""The step of a node's workflow while somebody else changes the row: each change is held open until the step waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes.queries import Node, Registration
from infra.db.session import Database
from infra.db.transactions import attend_node, node_state
from tests.db import rows
from tests.db.sessions import Sessions
from tests.faults.contention import held_on

pytestmark = pytest.mark.usefixtures("emptied")
WAITS_FOR_NODE = "FROM gpus"
GRACE_S = 40.0


@pytest.fixture
async def emptied(database: Database) -> AsyncIterator[None]:
    """Nothing of what is committed here stays for other tests."""
    yield
    await database.run(lambda c: c.execute(rows.EMPTY))


async def known(database: Database, gpu_id: str, node: dict[str, Any], attempt: dict[str, Any]) -> None:
    """A node whose state was seen, and a task's attempt on it."""

    async def prepare(connection: Connection) -> None:
        seen = {"attended_epoch": 1, "attended_status": node.get("status", "ACTIVE")}
        await rows.node(connection, gpu_id, task_types=[6100], **seen | node)
        await rows.task(connection, f"on-{gpu_id}", task_type=6100, attempts=1, status="PROCESSING")
        await rows.attempt(connection, f"on-{gpu_id}", gpu_id=gpu_id, **attempt)

    await database.run(prepare)


async def attend(database: Database, gpu_id: str) -> Node | None:
    node, _ = await database.run(lambda c: attend_node.attend(c, gpu_id, GRACE_S))
    return node


async def attend_behind(
    engine: Sessions, database: Database, gpu_id: str, change: Callable[[Connection, str], Awaitable[object]]
) -> None:
    """Attend to a node that is about to change: it has been read as it was, and is locked as it is then."""
    async with held_on(engine) as changing:
        await change(changing.connection, gpu_id)
        attending = asyncio.create_task(attend(database, gpu_id))
        await changing.until_waiting(WAITS_FOR_NODE)
        await changing.commit()
        await attending


async def outcome(database: Database, gpu_id: str) -> str | None:
    statement = "SELECT COALESCE(outcome, 'OPEN') FROM attempts WHERE task_id = %(task_id)s"
    return await database.run(lambda c: c.one(str, statement, {"task_id": f"on-{gpu_id}"}))


async def read(database: Database, gpu_id: str) -> Node:
    node = await database.run(lambda c: node_queries.get(c, gpu_id))
    assert node is not None
    return node


async def test_a_node_that_comes_back_meanwhile_still_has_to_stop_what_was_lost(
    engine: Sessions, database: Database
) -> None:
    await known(database, "att-back", {"status": "OFFLINE"}, {"outcome": "LOST", "closed_at": rows.NOW})
    await attend_behind(engine, database, "att-back", node_state.come_back)
    node = await read(database, "att-back")
    assert (node.status, node.is_back) == ("ACTIVE", True)


async def test_a_node_that_is_recovered_meanwhile_keeps_its_attempts(engine: Sessions, database: Database) -> None:
    await known(database, "att-recover", {"status": "FAULTY"}, {})
    await attend_behind(engine, database, "att-recover", node_state.recover)
    assert await outcome(database, "att-recover") == "OPEN"


async def test_a_node_that_registers_again_meanwhile_keeps_its_attempts(engine: Sessions, database: Database) -> None:
    await known(database, "att-gone", {"gone_at": rows.NOW}, {})
    node = Registration("att-gone", "h", None, "127.0.0.1", 1, [6100], "NORMAL", "1", 1, {}, None, None)
    await attend_behind(engine, database, "att-gone", lambda c, _: node_state.register(c, node))
    assert await outcome(database, "att-gone") == "OPEN"


async def test_a_node_that_is_faulted_meanwhile_loses_its_attempts_by_the_next_call(
    engine: Sessions, database: Database
) -> None:
    await known(database, "att-fault", {}, {})
    await attend_behind(engine, database, "att-fault", lambda c, gpu_id: node_state.fault(c, gpu_id, "fan"))
    assert await outcome(database, "att-fault") == "OPEN"
    await attend(database, "att-fault")
    assert await outcome(database, "att-fault") == "FAULTY"


async def test_a_node_that_goes_meanwhile_loses_its_attempts_by_the_next_call(
    engine: Sessions, database: Database
) -> None:
    await known(database, "att-goes", {}, {})
    await attend_behind(engine, database, "att-goes", node_state.deregister)
    assert await outcome(database, "att-goes") == "OPEN"
    assert await attend(database, "att-goes") is None
    assert await outcome(database, "att-goes") == "DEREGISTERED"
