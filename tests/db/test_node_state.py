"""State that a node keeps over a deregistration, and that `recover` ends."""

from __future__ import annotations

import pytest

from infra.db.nodes import queries as node_queries
from infra.db.transactions import node_state
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.errors import GpuNotFound


async def leave_and_come_back(life: Life, gpu_id: str) -> None:
    await node_state.deregister(life.connection, gpu_id)
    await life.node(gpu_id, [1])


async def test_a_faulty_node_that_leaves_and_comes_back_is_faulty_until_it_is_recovered(life):
    await life.node("n", [1])
    await node_state.fault(life.connection, "n", "ECC")
    await leave_and_come_back(life, "n")
    node = await life.gpu("n")
    assert (node.status, node.fault_reason, node.epoch) == ("FAULTY", "ECC", 2)
    await life.create("t")
    assert await life.claim("t") is None
    await node_state.deregister(life.connection, "n")
    with pytest.raises(GpuNotFound):
        await node_state.recover(life.connection, "n")  # of a node that is gone
    await life.node("n", [1])
    await node_state.recover(life.connection, "n")
    assert await life.running() == {"t": "n"}
    await leave_and_come_back(life, "n")
    assert (await life.gpu("n")).status == "ACTIVE"


async def test_a_node_that_is_gone_is_known_as_such(life):
    await life.node("n", [1])
    await life.node("stays", [1])
    assert await node_queries.gone(life.connection, "n") is None
    await node_state.fault(life.connection, "n", "ECC")
    await node_state.deregister(life.connection, "n")
    gone = await node_queries.gone(life.connection, "n")
    assert gone is not None
    assert (gone.fault_reason, gone.gone_at is not None) == ("ECC", True)
    assert await node_queries.get(life.connection, "n") is None
    assert await node_queries.states(life.connection, ["n", "stays"]) == {"stays": "ACTIVE"}


async def test_failures_in_a_row_outlast_a_deregistration(life):
    await life.node("n", [1])
    for number in range(3):
        await life.create(f"t{number}", max_retries=0)
        await life.claim(f"t{number}")
        await life.end(f"t{number}", Outcome.FAILED, "boom")
    since = (await life.gpu("n")).judged_since
    await leave_and_come_back(life, "n")
    node = await life.gpu("n")
    assert (node.status, node.task_failure_count, node.judged_since) == ("ACTIVE", 3, since)
    assert await life.rests_for("n") == pytest.approx(1, abs=0.5)


async def test_recover_ends_the_rest_of_a_node_that_is_not_faulty(life):
    await life.node("n", [1])
    for number in range(3):
        await life.create(f"t{number}", max_retries=0)
        await life.claim(f"t{number}")
        await life.end(f"t{number}", Outcome.FAILED, "boom")
    await life.create("next")
    assert await life.claim("next") is None
    await node_state.recover(life.connection, "n")
    node = await life.gpu("n")
    assert (node.task_failure_count, node.rests, node.not_before) == (0, 0, None)
    assert await life.running() == {"next": "n"}
    assert not (await node_state.recover(life.connection, "n")).grants
