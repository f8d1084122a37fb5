"""The step of a node's workflow while somebody else changes the row: each change is held open until the step waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from infra.db.connection import Connection
from infra.db.nodes import liveness
from infra.db.nodes import queries as node_queries
from infra.db.nodes.liveness import Silence
from infra.db.nodes.queries import RegisteredNode, Registration
from infra.db.ops import instances
from infra.db.session import Database
from infra.db.transactions import attend_node, node_state
from tests.db import rows
from tests.db.sessions import Session, Sessions
from tests.faults.contention import held_on

pytestmark = pytest.mark.usefixtures("emptied")
WAITS_FOR_NODE = "FROM gpus"
GRACE_S = 40.0
BEAT = "INSERT INTO gpu_beats (gpu_id, at) VALUES (%(gpu_id)s, clock_timestamp() - make_interval(secs => %(s)s))"


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


async def attend(database: Database, gpu_id: str) -> RegisteredNode | None:
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


async def read(database: Database, gpu_id: str) -> RegisteredNode:
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


@pytest.mark.parametrize(
    ("status", "silent_s", "looks"), [("ACTIVE", 1, 0), ("ACTIVE", GRACE_S + 1, 1), ("OFFLINE", GRACE_S + 1, 0)]
)
async def test_only_an_active_node_past_its_grace_costs_a_look_at_the_fleet(
    connection: Session, monkeypatch: pytest.MonkeyPatch, status: str, silent_s: float, looks: int
) -> None:
    looked: list[Silence] = []

    async def find(connection: Connection, grace_s: float) -> Silence:
        looked.append(await liveness.find(connection, grace_s))
        return looked[-1]

    monkeypatch.setattr(attend_node, "find", find)
    await rows.node(connection, "att-looks", status=status)
    await connection.execute(BEAT, {"gpu_id": "att-looks", "s": silent_s})
    await attend_node.attend(connection, "att-looks", GRACE_S)
    assert len(looked) == looks


async def test_a_silent_node_is_returned_as_it_is_then(connection: Session) -> None:
    await instances.join(connection, kind="api", hostname="h", pid=1, version="1")
    await connection.execute("UPDATE instances SET listening_since = clock_timestamp() - interval '1 day'")
    await rows.node(connection, "att-silent")
    await connection.execute(BEAT, {"gpu_id": "att-silent", "s": GRACE_S + 1})
    node, _ = await attend_node.attend(connection, "att-silent", GRACE_S)
    assert node is not None
    assert node.status == "OFFLINE"
