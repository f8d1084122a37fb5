"""Poison on the database: a task that fails in the same way everywhere ends, and no node is at fault."""

from __future__ import annotations

import pytest

from infra.db.transactions import judge_nodes, node_state
from tests.db.conftest import FLEET
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.task import TaskStatus


async def counts(life: Life) -> dict[str, int]:
    return {gpu_id: (await life.gpu(gpu_id)).task_failure_count for gpu_id in FLEET}


async def test_a_task_that_fails_alike_on_three_nodes_gets_no_more_than_the_usual_retries(fleet):
    await fleet.create("poison", max_retries=9)
    nodes = await fleet.fail_everywhere("poison", *[f"boom in pid {n}2345" for n in range(1, 5)])
    assert len(set(nodes)) == 4
    task = await fleet.task("poison")
    assert (task.status, task.retry_count, task.attempts) == (TaskStatus.FAILED, 3, 4)
    assert task.error_message == "boom in pid 42345（已在4个节点上以同样的方式失败，不再重试）"
    assert await fleet.claim("poison") is None


async def test_a_task_that_times_out_everywhere_ends_with_timeout(fleet):
    await fleet.create("endless", max_retries=9)
    await fleet.do("UPDATE tasks SET timeout_ms = 300000")
    await fleet.fail_everywhere("endless", *["任务执行超时"] * 4, outcome=Outcome.TIMED_OUT)
    task = await fleet.task("endless")
    assert task.status == TaskStatus.TIMEOUT
    assert task.error_message.startswith("任务执行超时（已在4个节点")


async def test_different_failures_use_up_all_retries(fleet):
    await fleet.create("unlucky", max_retries=3)
    await fleet.fail_everywhere("unlucky", "a", "b", "c", "d")
    task = await fleet.task("unlucky")
    assert (task.status, task.retry_count, task.error_message) == (TaskStatus.FAILED, 3, "d")


async def test_a_flood_of_poison_makes_no_node_faulty(fleet):
    for number in range(20):
        await fleet.create(f"poison{number}")
        await fleet.fail_everywhere(f"poison{number}", "boom", "boom", "boom", "boom")
    assert await counts(fleet) == dict.fromkeys(FLEET, 0)
    assert {(await fleet.gpu(gpu_id)).status for gpu_id in FLEET} == {"ACTIVE"}


async def test_until_the_third_node_the_first_failure_counts(fleet):
    await fleet.create("t")
    first, second = await fleet.fail_everywhere("t", "boom", "boom")
    assert first != second
    assert (await counts(fleet))[first] == 1
    assert sum((await counts(fleet)).values()) == 1


async def test_an_excuse_is_given_once_and_leaves_other_failures_counted(fleet):
    await fleet.create("poison")
    (first,) = await fleet.fail_everywhere("poison", "boom")
    for gpu_id in set(FLEET) - {first}:
        await fleet.do("UPDATE gpus SET status = 'OFFLINE' WHERE gpu_id = %(g)s", g=gpu_id)
    await fleet.create("other")
    assert await fleet.fail_everywhere("other", "bang") == [first]
    await fleet.do("UPDATE gpus SET status = 'ACTIVE'")
    await fleet.fail_everywhere("poison", "boom", "boom", "boom")
    assert (await counts(fleet))[first] == 1
    await fleet.review("poison")
    assert (await counts(fleet))[first] == 1


async def test_an_excuse_ends_a_rest(fleet):
    for number in range(3):
        await fleet.do("UPDATE gpus SET status = CASE gpu_id WHEN 'n1' THEN 'ACTIVE' ELSE 'OFFLINE' END")
        await fleet.create(f"poison{number}")
        assert await fleet.fail_everywhere(f"poison{number}", "boom") == ["n1"]
    assert await fleet.rests_for("n1") == pytest.approx(1, abs=0.5)
    await fleet.do("UPDATE gpus SET status = 'ACTIVE'")
    await fleet.fail_everywhere("poison0", "boom", "boom", "boom")
    node = await fleet.gpu("n1")
    assert (node.task_failure_count, node.rests, node.not_before) == (2, 0, None)


async def test_an_excuse_reaches_a_node_that_has_gone(life):
    for gpu_id in ("n1", "n2", "n3"):
        await life.node(gpu_id, [1])
    await life.create("poison", max_retries=3)
    first, *_ = await life.fail_everywhere("poison", "boom")
    assert (await life.gpu(first)).task_failure_count == 1
    await node_state.deregister(life.connection, first)
    await judge_nodes.excuse(life.connection, "poison", first)
    await life.node(first, [1])
    assert (await life.gpu(first)).task_failure_count == 0
