"""The GPUs and slots of one node's key: counted in the transaction that registers, so that no two pass at once."""

from __future__ import annotations

import asyncio

import pytest

from infra.db.nodes import key_limits
from infra.db.nodes.queries import Registration
from infra.db.transactions import node_state
from workflows.domain.errors import BeyondKeyLimits
from workflows.domain.key_limits import KeyLimits

TWO = KeyLimits(types=(1, 2), max_gpus=2, max_slots=5, networks=("127.0.0.0/8",))


def node(gpu_id, *, slots=1, types=(1,), ip="127.0.0.1", lineage="fleet"):
    return Registration(gpu_id, "h", None, ip, 1, list(types), "VIP", "1", slots, {}, None, lineage)


async def register(connection, one, limits=TWO):
    await key_limits.check(connection, limits, one)
    await node_state.register(connection, one)


async def test_gpus_count_while_they_are_registered(connection):
    await register(connection, node("g1"))
    await register(connection, node("g2"))
    await connection.execute("UPDATE gpus SET status = 'OFFLINE' WHERE gpu_id = 'g1'")
    for again in ("g1", "g2"):
        await register(connection, node(again))
    with pytest.raises(BeyondKeyLimits, match="数量"):
        await register(connection, node("g3"))
    await register(connection, node("g3", lineage="another"))
    await node_state.deregister(connection, "g1")
    await register(connection, node("g4"))
    with pytest.raises(BeyondKeyLimits):
        await register(connection, node("g1"))


async def test_slots_are_summed_up(connection):
    await register(connection, node("g1", slots=5))
    with pytest.raises(BeyondKeyLimits, match="maxConcurrentTasks"):
        await register(connection, node("g2"))
    await register(connection, node("g1", slots=3))
    await register(connection, node("g2", slots=2))
    with pytest.raises(BeyondKeyLimits, match="maxConcurrentTasks"):
        await register(connection, node("g1", slots=4))


@pytest.mark.parametrize(
    ("one", "says"),
    [(node("g", types=(1, 3)), "supportedTaskTypes"), (node("g", ip="10.0.0.1"), "ip")],
)
async def test_what_is_outside_of_the_grants(connection, one, says):
    with pytest.raises(BeyondKeyLimits, match=says):
        await register(connection, one)
    await register(connection, one, KeyLimits())


@pytest.fixture
async def nothing_left(engine):
    yield
    async with engine.begin() as connection:
        of_this_test = "WHERE gpu_id LIKE 'at\\_once\\_%%'"
        await connection.execute(f"UPDATE gpus SET gone_at = clock_timestamp() {of_this_test}")  # it is counted
        for table in ("gpu_beats", "gpus"):
            await connection.execute(f"DELETE FROM {table} {of_this_test}")


@pytest.mark.usefixtures("nothing_left")
async def test_of_many_at_once_as_many_as_are_granted_pass(database):
    nodes = [node(f"at_once_{number}", lineage="at once") for number in range(8)]
    answers = await asyncio.gather(
        *(database.run(lambda c, one=one: register(c, one)) for one in nodes), return_exceptions=True
    )
    assert [type(answer) for answer in answers if answer is not None] == [BeyondKeyLimits] * 6
