"""Changes of nodes by node keys: the lineage is checked under the lock of the row, whatever a route has seen before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from infra.db.access import audit
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.nodes.drains import Drain
from infra.db.nodes.queries import Registration
from infra.db.session import Database
from infra.db.transactions import change_node, node_state
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from workflows.domain.command import Command
from workflows.domain.errors import GpuNotFound, GpuOfAnotherKey
from workflows.domain.role import Role

OWN, STRANGER = (Caller(f"key_{of}", Role.NODE, of, of) for of in ("k", "stranger"))
Change = Callable[[Connection, str | None], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "fault": lambda c, of: node_state.fault(c, "n", "ECC", of),
    "recover": lambda c, of: node_state.recover(c, "n", of),
    "drain": lambda c, of: node_state.drain(c, "n", Drain("x", "fan"), of),
    "undrain": lambda c, of: node_state.undrain(c, "n", of),
    "come_back": lambda c, of: node_state.come_back(c, "n", of),
    "deregister": lambda c, of: node_state.deregister(c, "n", of),
}
BEFORE = {
    "recover": "UPDATE gpus SET status = 'FAULTY'",
    "undrain": "UPDATE gpus SET drained_at = clock_timestamp(), drained_by = 'ops', drain_reason = 'fan'",
    "come_back": "UPDATE gpus SET status = 'OFFLINE'",
}
"""States in which these changes change something."""
WAITS_FOR_A_ROW = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype IN ('transactionid', 'tuple') AND NOT granted AND datname = current_database()"
)
every_change = pytest.mark.parametrize("change", CHANGES)


async def begin(life: Life, change: str) -> Any:
    """A node of the lineage k that the change would change."""
    await life.node("n", [1])
    await life.do(BEFORE.get(change, "SELECT 1"))
    return await life.gpu("n")


@every_change
async def test_a_stranger_s_node_stays_as_it_is(life: Life, change: str) -> None:
    before = await begin(life, change)
    with pytest.raises(GpuOfAnotherKey):
        await CHANGES[change](life.connection, "stranger")
    assert await life.gpu("n") == before


@every_change
@pytest.mark.parametrize("lineage", ["k", None])
async def test_its_own_key_and_those_who_may_change_any_node_do(life: Life, change: str, lineage: str | None) -> None:
    await begin(life, change)
    assert await CHANGES[change](life.connection, lineage)


@every_change
async def test_a_node_that_is_gone_is_nobody_s(life: Life, change: str) -> None:
    await begin(life, change)
    await node_state.deregister(life.connection, "n")
    gone = await life.gpu("n")
    with pytest.raises(GpuNotFound):
        await CHANGES[change](life.connection, "k")
    assert await life.gpu("n") == gone


@pytest.mark.parametrize("command", Command)
async def test_the_key_of_another_node_commands_nothing(life: Life, command: Command) -> None:
    before = await begin(life, str(command))
    with pytest.raises(GpuOfAnotherKey):
        await change_node.carry_out(life.connection, STRANGER, command, "n", "fan")
    assert await life.gpu("n") == before
    assert await audit.page(life.connection, {}, limit=1, offset=0) == ([], 0)
    assert await change_node.carry_out(life.connection, OWN, command, "n", "fan")


async def test_the_key_of_another_node_does_not_deregister_it(life: Life) -> None:
    before = await begin(life, "deregister")
    with pytest.raises(GpuOfAnotherKey):
        await change_node.deregister(life.connection, STRANGER, "n")
    assert await life.gpu("n") == before
    assert await change_node.deregister(life.connection, OWN, "n")


@pytest.fixture
async def node(database: Database) -> AsyncIterator[None]:
    await database.run(lambda c: c.execute(rows.EMPTY))
    await database.run(lambda c: rows.node(c, "n", lineage="k"))
    yield
    await database.run(lambda c: c.execute(rows.EMPTY))


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("change", ["fault", "drain", "deregister"])
async def test_a_change_that_waits_while_the_node_changes_hands_is_refused(database: Database, change: str) -> None:
    handed_on, seen = asyncio.Event(), asyncio.Event()

    async def hand_on(connection: Connection) -> None:
        await connection.execute("UPDATE gpus SET lineage = 'heir' WHERE gpu_id = 'n'")
        handed_on.set()
        await seen.wait()

    async def waits() -> bool:
        return await database.run(lambda c: c.one(int, WAITS_FOR_A_ROW)) > 0

    handing_on = asyncio.create_task(database.run(hand_on))
    await handed_on.wait()
    changing = asyncio.create_task(database.run(lambda c: CHANGES[change](c, "k")))
    try:
        await eventually(waits, within=5)
    finally:
        seen.set()
        await handing_on
    with pytest.raises(GpuOfAnotherKey):
        await changing


async def register(life: Life, lineage: str | None) -> None:
    node = Registration("n", "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 2, {}, None, lineage)
    await node_state.register(life.connection, node)


@pytest.mark.parametrize(("heir", "keeps"), [("k", False), (None, True)])
async def test_a_key_that_takes_a_gpu_id_over_gets_no_attempt_of_the_one_before(
    life: Life, heir: str | None, keeps: bool
) -> None:
    """An administrator may register the node again, and it goes on with its attempts."""
    await register(life, None)
    await life.create("t")
    assert await life.claim("t") == "n"
    await node_state.deregister(life.connection, "n")
    await register(life, heir)
    reasons = await life.connection.rows("SELECT outcome, reason FROM attempts")
    assert reasons == [(None, None) if keeps else ("DEREGISTERED", "节点由另一密钥重新注册")]
    assert (await life.task("t")).status == "QUEUED"


async def test_an_administrator_s_registration_takes_nothing_over(life: Life) -> None:
    await register(life, "k")
    await life.create("t")
    assert await life.claim("t") == "n"
    for lineage in (None, "k"):
        await register(life, lineage)
    assert await life.running() == {"t": "n"}
