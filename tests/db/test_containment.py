"""Containment on the database: a poison task ends and accuses nobody, a node that fails what others complete is out."""

from __future__ import annotations

import pytest

from infra.db import blame, gpus
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.errors import GpuNotFound
from workflows.domain.task import TaskStatus

FLEET = ("n1", "n2", "n3", "n4", "n5")


@pytest.fixture
async def fleet(life: Life) -> Life:
    for gpu_id in FLEET:
        await life.node(gpu_id, [1])
    return life


async def fail_everywhere(life: Life, task_id: str, *reasons: str, outcome: Outcome = Outcome.FAILED) -> list[str]:
    """Let a task fail with one reason after another; the nodes where it did."""
    nodes: list[str] = []
    for reason in reasons:
        gpu_id = await life.claim(task_id)
        assert gpu_id is not None
        nodes.append(gpu_id)
        await life.end(task_id, outcome, reason)
    return nodes


async def counts(life: Life) -> dict[str, int]:
    return {gpu_id: (await life.gpu(gpu_id)).task_failure_count for gpu_id in FLEET}


async def test_a_task_that_fails_alike_on_three_nodes_gets_no_more_than_the_usual_retries(fleet):
    await fleet.create("poison", max_retries=9)
    nodes = await fail_everywhere(fleet, "poison", *[f"boom in pid {n}2345" for n in range(1, 5)])
    assert len(set(nodes)) == 4
    task = await fleet.task("poison")
    assert (task.status, task.retry_count, task.attempts) == (TaskStatus.FAILED, 3, 4)
    assert task.error_message == "boom in pid 42345（已在4个节点上以同样的方式失败，不再重试）"
    assert await fleet.claim("poison") is None


async def test_a_task_that_times_out_everywhere_ends_with_timeout(fleet):
    await fleet.create("endless", max_retries=9)
    await fail_everywhere(fleet, "endless", *["任务执行超时"] * 4, outcome=Outcome.TIMED_OUT)
    task = await fleet.task("endless")
    assert task.status == TaskStatus.TIMEOUT
    assert task.error_message.startswith("任务执行超时（已在4个节点")


async def test_different_failures_use_up_all_retries(fleet):
    await fleet.create("unlucky", max_retries=3)
    await fail_everywhere(fleet, "unlucky", "a", "b", "c", "d")
    task = await fleet.task("unlucky")
    assert (task.status, task.retry_count, task.error_message) == (TaskStatus.FAILED, 3, "d")


async def test_a_flood_of_poison_makes_no_node_faulty(fleet):
    for number in range(20):
        await fleet.create(f"poison{number}")
        await fail_everywhere(fleet, f"poison{number}", "boom", "boom", "boom", "boom")
    assert await counts(fleet) == dict.fromkeys(FLEET, 0)
    assert {(await fleet.gpu(gpu_id)).status for gpu_id in FLEET} == {"ACTIVE"}


async def test_until_the_third_node_the_first_failure_counts(fleet):
    await fleet.create("t")
    first, second = await fail_everywhere(fleet, "t", "boom", "boom")
    assert first != second
    assert (await counts(fleet))[first] == 1
    assert sum((await counts(fleet)).values()) == 1


async def test_an_excuse_is_given_once_and_leaves_other_failures_counted(fleet):
    await fleet.create("poison")
    (first,) = await fail_everywhere(fleet, "poison", "boom")
    for gpu_id in set(FLEET) - {first}:
        await fleet.do("UPDATE gpus SET status = 'OFFLINE' WHERE gpu_id = :g", g=gpu_id)
    await fleet.create("other")
    assert await fail_everywhere(fleet, "other", "bang") == [first]
    await fleet.do("UPDATE gpus SET status = 'ACTIVE'")
    await fail_everywhere(fleet, "poison", "boom", "boom", "boom")
    assert (await counts(fleet))[first] == 1
    await fleet.review("poison")
    assert (await counts(fleet))[first] == 1


async def test_one_node_alone_is_blamed_for_every_failure(life):
    await life.node("only", [1])
    await life.create("t", max_retries=2)
    await fail_everywhere(life, "t", "boom", "boom", "boom")
    node = await life.gpu("only")
    assert (node.status, node.task_failure_count) == ("FAULTY", 3)
    task = await life.task("t")
    assert (task.status, task.retry_count, task.error_message) == ("FAILED", 2, "boom")


async def start_on_bad(life: Life, task_id: str) -> None:
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'good'")
    await life.create(task_id)
    assert await life.claim(task_id) == "bad"
    await life.do("UPDATE gpus SET not_before = NULL")


async def fail_and_be_outdone(life: Life, task_id: str) -> None:
    """`bad` fails a task, and `good` completes it."""
    await start_on_bad(life, task_id)
    await life.end(task_id, Outcome.FAILED, f"reason of {task_id}")
    assert await life.claim(task_id) == "good"
    await life.end(task_id)


async def alternate(life: Life, rounds: int) -> None:
    """Of each two tasks `bad` fails one: never three in a row."""
    for number in range(rounds):
        await start_on_bad(life, f"well {number}")
        await life.end(f"well {number}")
        await fail_and_be_outdone(life, f"badly {number}")


@pytest.fixture
async def pair(life: Life) -> Life:
    for gpu_id in ("bad", "good"):
        await life.node(gpu_id, [1])
    return life


async def test_a_node_that_fails_what_others_complete_is_faulty(pair):
    await alternate(pair, 2)
    assert (await pair.gpu("bad")).status == "ACTIVE"
    await alternate_once_more(pair)
    node = await pair.gpu("bad")
    assert (node.status, node.task_failure_count) == ("FAULTY", 1)
    assert (await pair.gpu("good")).status == "ACTIVE"
    message = await pair.scalar("SELECT message FROM alerts WHERE level = 'CRITICAL'")
    assert message == "GPU节点 bad 检测到故障: 最近6次执行中有3个任务失败，而其他节点完成了这些任务"


async def alternate_once_more(life: Life) -> None:
    await start_on_bad(life, "well again")
    await life.end("well again")
    await fail_and_be_outdone(life, "badly again")


async def test_what_was_before_a_recovery_is_past(pair):
    await alternate(pair, 3)
    assert (await pair.gpu("bad")).status == "FAULTY"
    await gpus.recover(pair.connection, "bad", strict_vip=False)
    await alternate_once_more(pair)
    assert (await pair.gpu("bad")).status == "ACTIVE"


async def test_the_same_look_twice_raises_one_alert(pair):
    await alternate(pair, 3)
    assert not await pair.review("badly 2")
    assert await pair.scalar("SELECT count(*) FROM alerts WHERE level = 'CRITICAL'") == 1


async def test_what_nobody_completes_accuses_nobody(pair):
    for number in range(4):
        await start_on_bad(pair, f"well {number}")
        await pair.end(f"well {number}")
        await pair.create(f"bad input {number}", max_retries=0)
        await fail_everywhere(pair, f"bad input {number}", "boom")
    assert {(await pair.gpu(gpu_id)).status for gpu_id in ("bad", "good")} == {"ACTIVE"}


async def test_a_node_that_refuses_again_and_again_rests_longer_each_time_and_costs_no_retry(life):
    await life.node("busy", [1])
    await life.create("t")
    rests = []
    for _ in range(4):
        assert await life.claim("t") == "busy"
        await life.end("t", Outcome.REFUSED)
        rests.append(await life.scalar("SELECT extract(epoch FROM not_before - clock_timestamp())::float FROM gpus"))
        assert await life.claim("t") is None
        await life.do("UPDATE gpus SET not_before = NULL")
    assert rests == [pytest.approx(s, abs=0.5) for s in (1, 2, 4, 8)]
    assert (await life.task("t")).retry_count == 0
    node = await life.gpu("busy")
    assert (node.status, node.failure_count, node.task_failure_count) == ("ACTIVE", 4, 0)


async def leave_and_come_back(life: Life, gpu_id: str) -> None:
    await gpus.deregister(life.connection, gpu_id)
    await life.node(gpu_id, [1])


async def test_a_faulty_node_that_leaves_and_comes_back_is_faulty_until_it_is_recovered(life):
    await life.node("n", [1])
    await gpus.fault(life.connection, "n", "ECC")
    await leave_and_come_back(life, "n")
    node = await life.gpu("n")
    assert (node.status, node.fault_reason, node.epoch) == ("FAULTY", "ECC", 2)
    await life.create("t")
    assert await life.claim("t") is None
    await gpus.deregister(life.connection, "n")
    with pytest.raises(GpuNotFound):
        await gpus.recover(life.connection, "n", strict_vip=False)  # of a node that is gone
    await life.node("n", [1])
    await gpus.recover(life.connection, "n", strict_vip=False)
    assert await life.running() == {"t": "n"}
    await leave_and_come_back(life, "n")
    assert (await life.gpu("n")).status == "ACTIVE"


async def test_failures_in_a_row_outlast_a_deregistration(life):
    await life.node("n", [1])
    for number in range(2):
        await life.create(f"t{number}", max_retries=0)
        await life.claim(f"t{number}")
        await life.end(f"t{number}", Outcome.FAILED, "boom")
    since = (await life.gpu("n")).judged_since
    await leave_and_come_back(life, "n")
    node = await life.gpu("n")
    assert (node.status, node.task_failure_count, node.judged_since) == ("ACTIVE", 2, since)
    await life.create("last", max_retries=0)
    await life.claim("last")
    await gpus.deregister(life.connection, "n")
    await life.end("last", Outcome.FAILED, "boom")  # heard before its workflow has closed what it held
    await life.node("n", [1])
    assert (await life.gpu("n")).status == "FAULTY"


async def test_an_excuse_reaches_a_node_that_has_gone(life):
    for gpu_id in ("n1", "n2", "n3"):
        await life.node(gpu_id, [1])
    await life.create("poison", max_retries=3)
    first, *_ = await fail_everywhere(life, "poison", "boom")
    assert (await life.gpu(first)).task_failure_count == 1
    await gpus.deregister(life.connection, first)
    await life.do("UPDATE attempts SET blamed = true")
    await blame.excuse(life.connection, "poison", first)
    await life.node(first, [1])
    assert (await life.gpu(first)).task_failure_count == 0
