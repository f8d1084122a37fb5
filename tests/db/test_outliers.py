"""Nodes that fail what their peers complete, on the database: the outlier rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.db.transactions import node_state
from infra.temporal.open_workflows import StuckRun
from tests.db.life import Life
from workers.leader.stuck_workflows import StuckWorkflows
from workflows.domain.attempt import Outcome
from workflows.notifications import Notifications


@pytest.mark.parametrize(("timeout_ms", "usual_s", "attributed"), [
    (1, 1, False), (2900, 1, False), (3000, 1, True), (1000, None, False), (180_000, None, True),
])  # fmt: skip
async def test_a_limit_below_what_the_type_usually_takes_is_nobodys_failure(life, timeout_ms, usual_s, attributed):
    await life.node("n", [1])
    if usual_s is not None:
        await life.create("usual")
        await life.claim("usual")
        await life.end("usual")
        await life.do(
            "UPDATE tasks SET started_at = created_at, completed_at = created_at + make_interval(secs => %(s)s)",
            s=usual_s,
        )
        await life.do("UPDATE tasks SET created_at = created_at - interval '1 h', started_at = started_at"
                      " - interval '1 h', completed_at = completed_at - interval '1 h'")  # fmt: skip
    await life.create("t", max_retries=0)
    await life.do("UPDATE tasks SET timeout_ms = %(t)s WHERE task_id = 't'", t=timeout_ms)
    await life.claim("t")
    await life.end("t", Outcome.TIMED_OUT, "任务执行超时")
    assert (await life.gpu("n")).task_failure_count == int(attributed)
    short = f"任务执行超时（时限{timeout_ms}毫秒对该类型任务过短）"
    assert (await life.task("t")).error_message == ("任务执行超时" if attributed else short)


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
    """Let `bad` fail one of each two tasks: never three in a row."""
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
    await usual_work_of_the_good(pair)
    await alternate(pair, 4)
    assert (await pair.gpu("bad")).status == "ACTIVE"
    await alternate_once_more(pair)
    node = await pair.gpu("bad")
    assert (node.status, node.task_failure_count) == ("FAULTY", 1)
    assert (await pair.gpu("good")).status == "ACTIVE"
    message = await pair.scalar("SELECT message FROM alerts WHERE level = 'CRITICAL'")
    assert message == "GPU节点 bad 检测到故障: 最近10个任务中有5个在该节点失败，而其他节点完成了这些任务"


async def usual_work_of_the_good(life: Life) -> None:
    """The attempts that `bad` is compared with."""
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'bad'")
    for number in range(30):
        await life.create(f"usual {number}")
        assert await life.claim(f"usual {number}") == "good"
        await life.end(f"usual {number}")
    await life.do("UPDATE gpus SET not_before = NULL")


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.PROTOCOL_ERROR])
async def test_a_node_that_rejects_or_garbles_what_its_peer_completes_is_faulty(pair, outcome):
    await usual_work_of_the_good(pair)
    for number in range(4):
        assert (await pair.gpu("bad")).status == "ACTIVE"
        await start_on_bad(pair, f"t{number}")
        await pair.end(f"t{number}", outcome, "no")
        assert await pair.claim(f"t{number}") == "good"
        await pair.end(f"t{number}")
        await pair.do("UPDATE gpus SET not_before = NULL")
    assert (await pair.gpu("bad")).status == "FAULTY"


async def test_what_its_peer_fails_as_well_accuses_nobody(pair):
    """Each fails on one node and completes on the other: so work looks that fails at random."""
    for number in range(12):
        await start_on_bad(pair, f"there {number}")
        await pair.end(f"there {number}", Outcome.FAILED, f"reason {number}")
        assert await pair.claim(f"there {number}") == "good"
        await pair.end(f"there {number}")
        await pair.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'bad'")
        await pair.create(f"here {number}")
        assert await pair.claim(f"here {number}") == "good"
        await pair.do("UPDATE gpus SET not_before = NULL")
        await pair.end(f"here {number}", Outcome.FAILED, f"reason {number}")
        assert await pair.claim(f"here {number}") == "bad"
        await pair.end(f"here {number}")
    assert {(await pair.gpu(gpu_id)).status for gpu_id in ("bad", "good")} == {"ACTIVE"}


async def alternate_once_more(life: Life) -> None:
    await start_on_bad(life, "well again")
    await life.end("well again")
    await fail_and_be_outdone(life, "badly again")


async def test_nodes_are_reviewed_too_where_the_leader_collects_for_a_workflow_that_is_stuck(pair):
    class Gateway:
        async def deliver(self, notifications: Notifications) -> None:
            self.delivered = notifications

    await usual_work_of_the_good(pair)
    await alternate(pair, 4)
    await start_on_bad(pair, "last")
    await pair.end("last", Outcome.FAILED, "boom")
    assert await pair.claim("last") == "good"
    await pair.settle("last")
    assert (await pair.gpu("bad")).status == "ACTIVE"
    gateway: Any = Gateway()
    leader = StuckWorkflows(cast("Any", SimpleNamespace(run=pair.run)), gateway, gateway)
    await leader._collected(StuckRun("task-last", "run", "TaskWorkflow", frozenset()))
    assert ((await pair.task("last")).status, (await pair.gpu("bad")).status) == ("COMPLETED", "FAULTY")
    assert [event.signal for event in gateway.delivered.nodes] == ["fault"]


async def test_what_was_before_a_recovery_is_past(pair):
    await usual_work_of_the_good(pair)
    await alternate(pair, 5)
    assert (await pair.gpu("bad")).status == "FAULTY"
    await node_state.recover(pair.connection, "bad")
    await alternate_once_more(pair)
    assert (await pair.gpu("bad")).status == "ACTIVE"


async def test_the_same_look_twice_raises_one_alert(pair):
    await usual_work_of_the_good(pair)
    await alternate(pair, 5)
    assert not await pair.review("badly 4")
    assert await pair.scalar("SELECT count(*) FROM alerts WHERE level = 'CRITICAL'") == 1


async def test_what_nobody_completes_accuses_nobody(pair):
    for number in range(4):
        await start_on_bad(pair, f"well {number}")
        await pair.end(f"well {number}")
        await pair.create(f"bad input {number}", max_retries=0)
        await pair.fail_everywhere(f"bad input {number}", "boom")
    assert {(await pair.gpu(gpu_id)).status for gpu_id in ("bad", "good")} == {"ACTIVE"}
