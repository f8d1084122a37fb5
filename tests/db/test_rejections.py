"""Tasks that nodes reject, or answer outside of the protocol: the next node, and the end of the task."""

from __future__ import annotations

import pytest

from infra.db.transactions import node_state
from workflows.domain.attempt import Outcome


async def test_a_rejected_task_goes_to_another_node_and_completes_there(life):
    for gpu_id in ("n1", "n2"):
        await life.node(gpu_id, [1])
    await life.create("t", max_retries=0)
    first = await life.claim("t")
    await life.end("t", Outcome.REJECTED, "no")
    other = {"n1": "n2", "n2": "n1"}[first]
    assert await life.claim("t") == other
    await life.end("t")
    task = await life.task("t")
    assert (task.status, task.retry_count, task.attempts) == ("COMPLETED", 0, 2)
    assert {(await life.gpu(gpu_id)).task_failure_count for gpu_id in ("n1", "n2")} == {0}


async def test_a_second_node_that_rejects_too_is_believed(fleet):
    await fleet.create("t", max_retries=3)
    assert len(set(await fleet.fail_everywhere("t", "no", "no", outcome=Outcome.REJECTED))) == 2
    task = await fleet.task("t")
    assert (task.status, task.retry_count, task.error_message) == ("FAILED", 0, "no（已有2个节点拒绝）")


async def test_where_no_other_node_could_take_it_one_rejection_is_enough(life):
    await life.node("only", [1])
    await life.node("other type", [2])
    await life.node("gone", [1])
    await node_state.deregister(life.connection, "gone")
    await life.create("t")
    await life.claim("t")
    await life.end("t", Outcome.REJECTED, "no")
    task = await life.task("t")
    assert (task.status, task.error_message) == ("FAILED", "no")


@pytest.mark.parametrize("other_is", ["resting", "full"])
async def test_a_rejected_task_waits_for_a_node_that_could_take_it(life, other_is):
    await life.node("picky", [1])
    await life.create("t")
    assert await life.claim("t") == "picky"
    await life.node("other", [1])
    if other_is == "resting":
        await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'other'")
    else:
        await life.create("long")
        assert await life.claim("long") == "other"
    await life.end("t", Outcome.REJECTED, "no")
    assert await life.claim("t") is None
    await node_state.assign_unused_slots(life.connection, "picky")
    assert "t" not in await life.running()
    await life.wake()
    if other_is == "full":
        await life.end("long")
    await node_state.assign_unused_slots(life.connection, "other")
    assert (await life.running())["t"] == "other"


async def test_a_rejected_task_comes_back_where_the_other_node_has_gone_and_then_fails(life):
    for gpu_id in ("n1", "n2"):
        await life.node(gpu_id, [1])
    await life.create("t")
    first = await life.claim("t")
    other = {"n1": "n2", "n2": "n1"}[first]
    await life.end("t", Outcome.REJECTED, "no")
    await node_state.deregister(life.connection, other)
    assert await life.claim("t") == first
    await life.end("t", Outcome.REJECTED, "no")
    assert (await life.task("t")).status == "FAILED"


async def test_a_task_that_one_node_failed_and_the_other_rejected_goes_back_to_the_first_at_once(life):
    await life.node("failed", [1])
    await life.create("t")
    assert await life.claim("t") == "failed"
    await life.end("t", Outcome.FAILED, "boom")
    await life.node("picky", [1])
    assert await life.claim("t") == "picky"
    await life.create("long")
    assert await life.claim("long") == "failed"
    await life.end("t", Outcome.REJECTED, "no")
    assert await life.claim("t") is None
    await life.end("long")
    assert await life.running() == {"t": "failed"}


async def test_three_answers_outside_of_the_protocol_end_the_task_and_let_the_node_rest(life):
    await life.node("only", [1])
    await life.create("t")
    rests = []
    for _ in range(3):
        assert await life.claim("t") == "only"
        await life.end("t", Outcome.PROTOCOL_ERROR, "HTTP 302")
        rests.append(await life.rests_for("only"))
        await life.wake()
    task, node = await life.task("t"), await life.gpu("only")
    assert (task.status, task.retry_count) == ("FAILED", 0)
    assert task.error_message == "HTTP 302（已发生3次，不再派发）"
    assert rests == [pytest.approx(s, abs=0.5) for s in (1, 2, 4)]
    assert (node.status, node.failure_count, node.task_failure_count) == ("ACTIVE", 3, 0)
    assert (await life.alert("rest:PROTOCOL:only")).count == 3


@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.LOST, Outcome.HANDED_BACK])
async def test_no_answer_never_ends_a_task(life, outcome):
    await life.node("only", [1])
    await life.create("t", max_retries=0)
    for _ in range(12):
        assert await life.claim("t") == "only"
        await life.end("t", outcome, "r")
        await life.wake()
    task, node = await life.task("t"), await life.gpu("only")
    assert (task.status, task.retry_count) == ("QUEUED", 0)
    assert (node.status, node.task_failure_count) == ("ACTIVE", 0)
