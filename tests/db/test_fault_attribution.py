"""Fault attribution on the database: each outcome, what it means for the task and for the node, and who is broken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.db.transactions import judge_nodes, node_state
from infra.temporal.notifications import Notifications
from infra.temporal.open_workflows import StuckRun
from tests.db.life import Life
from workers.leader.stuck_workflows import StuckWorkflows
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
    await fleet.do("UPDATE tasks SET timeout_ms = 300000")
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
        await fleet.do("UPDATE gpus SET status = 'OFFLINE' WHERE gpu_id = %(g)s", g=gpu_id)
    await fleet.create("other")
    assert await fail_everywhere(fleet, "other", "bang") == [first]
    await fleet.do("UPDATE gpus SET status = 'ACTIVE'")
    await fail_everywhere(fleet, "poison", "boom", "boom", "boom")
    assert (await counts(fleet))[first] == 1
    await fleet.review("poison")
    assert (await counts(fleet))[first] == 1


async def rests_for(life: Life, gpu_id: str) -> float | None:
    """Seconds until the node gets work again; None where it does not rest."""
    statement = "SELECT extract(epoch FROM not_before - clock_timestamp())::float FROM gpus WHERE gpu_id = %(g)s"
    left: float | None = await life.scalar(statement, g=gpu_id)
    return left


async def wake(life: Life) -> None:
    await life.do("UPDATE gpus SET not_before = NULL")


async def alerts(life: Life, cause: str) -> Any:
    """How often the open alert of a cause was raised, and its message; None without one."""
    rows = await life.connection.rows("SELECT count, message FROM alerts WHERE cause = %(c)s", {"c": cause})
    return rows[0] if rows else None


async def test_one_task_that_fails_on_a_lone_node_ends_with_its_reason_and_the_node_goes_on(life):
    await life.node("only", [1])
    await life.create("t", max_retries=3)
    await fail_everywhere(life, "t", "boom", "boom", "boom", "boom")
    node, task = await life.gpu("only"), await life.task("t")
    assert (node.status, node.task_failure_count, node.not_before) == ("ACTIVE", 4, None)
    assert (task.status, task.retry_count, task.error_message) == ("FAILED", 3, "boom")


async def test_a_lone_node_that_fails_three_distinct_tasks_rests_longer_each_time_until_it_succeeds(life):
    await life.node("only", [1], slots=4)
    rests = []
    for number in range(6):
        await life.create(f"t{number}", max_retries=0)
        await fail_everywhere(life, f"t{number}", f"boom {number}")
        rests.append(await rests_for(life, "only"))
        await wake(life)
    assert rests == [None, None, *(pytest.approx(s, abs=0.5) for s in (1, 2, 4, 8))]
    node, alert = await life.gpu("only"), await alerts(life, "rest:FAILS:only")
    assert (node.status, node.task_failure_count, node.rests) == ("ACTIVE", 6, 4)
    assert (alert.count, alert.message.endswith("：boom 5")) == (4, True)
    for task_id in ("probe", "next"):
        await life.create(task_id)
    assert [await life.claim(task_id) for task_id in ("probe", "next")] == ["only", None]  # one at a time
    await life.end("probe")
    assert await life.running() == {"next": "only"}
    assert (await life.gpu("only")).task_failure_count == 0


async def test_a_burst_of_failures_on_many_slots_begins_one_short_rest(life):
    await life.node("only", [1], slots=8)
    for number in range(8):
        await life.create(f"t{number}", max_retries=0)
        assert await life.claim(f"t{number}") == "only"
    for number in range(8):
        await life.end(f"t{number}", Outcome.FAILED, f"boom {number}")
    node = await life.gpu("only")
    assert (node.task_failure_count, node.rests) == (8, 1)
    assert await rests_for(life, "only") == pytest.approx(1, abs=0.5)
    await life.do("UPDATE gpus SET not_before = clock_timestamp()")
    await life.create("probe", max_retries=0)
    assert await life.claim("probe") == "only"
    await life.end("probe", Outcome.FAILED, "boom")
    assert await rests_for(life, "only") == pytest.approx(2, abs=0.5)


async def test_a_moment_in_which_a_node_refuses_on_all_slots_costs_it_a_second(life):
    await life.node("n", [1], slots=8)
    for number in range(8):
        await life.create(f"t{number}")
        assert await life.claim(f"t{number}") == "n"
    for number in range(8):
        await life.end(f"t{number}", Outcome.REFUSED, "HTTP 503")
    assert (await life.gpu("n")).failure_count == 8
    assert await rests_for(life, "n") == pytest.approx(1, abs=0.5)
    assert await alerts(life, "rest:REFUSES:n") is None


async def test_a_rest_is_not_cut_short_by_another_one(life):
    await life.node("n", [1])
    await life.create("t")
    assert await life.claim("t") == "n"
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s'")
    await life.end("t", Outcome.HANDED_BACK, "not now")
    assert await rests_for(life, "n") == pytest.approx(50, abs=2)


async def test_a_rest_that_the_clock_has_put_out_of_reach_is_none(life):
    await life.node("n", [1])
    await life.do("UPDATE gpus SET rests = 1, failed_tasks = '{a,b}', not_before = clock_timestamp() + interval '2 h'")
    await life.create("t", max_retries=0)
    assert await life.claim("t") == "n"
    await life.end("t", Outcome.FAILED, "boom")
    assert await rests_for(life, "n") == pytest.approx(2, abs=0.5)


async def test_a_probe_is_of_another_flow_than_the_last_failure(life):
    await life.node("only", [1])
    for number in range(3):
        await life.create(f"t{number}", max_retries=0, app="careless")
        await fail_everywhere(life, f"t{number}", "boom")
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s'")  # longer than the loop may take
    for number in range(20):
        await life.create(f"more{number}", app="careless")
        assert await life.claim(f"more{number}") is None
    await life.create("honest", app="careful")
    assert await life.claim("honest") is None
    await wake(life)
    await node_state.assign_unused_slots(life.connection, "only")
    assert await life.running() == {"honest": "only"}


async def test_where_no_other_flow_waits_the_same_one_is_the_probe(life):
    await life.node("only", [1])
    for number in range(4):
        await life.create(f"t{number}", max_retries=0)
    await fail_everywhere(life, "t0", "boom")
    await fail_everywhere(life, "t1", "boom")
    await fail_everywhere(life, "t2", "boom")
    assert await life.claim("t3") is None
    await wake(life)
    assert await life.claim("t3") == "only"


async def test_an_excuse_ends_a_rest(fleet):
    for number in range(3):
        await fleet.do("UPDATE gpus SET status = CASE gpu_id WHEN 'n1' THEN 'ACTIVE' ELSE 'OFFLINE' END")
        await fleet.create(f"poison{number}")
        assert await fail_everywhere(fleet, f"poison{number}", "boom") == ["n1"]
    assert await rests_for(fleet, "n1") == pytest.approx(1, abs=0.5)
    await fleet.do("UPDATE gpus SET status = 'ACTIVE'")
    await fail_everywhere(fleet, "poison0", "boom", "boom", "boom")
    node = await fleet.gpu("n1")
    assert (node.task_failure_count, node.rests, node.not_before) == (2, 0, None)


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
    assert len(set(await fail_everywhere(fleet, "t", "no", "no", outcome=Outcome.REJECTED))) == 2
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
    await wake(life)
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
        rests.append(await rests_for(life, "only"))
        await wake(life)
    task, node = await life.task("t"), await life.gpu("only")
    assert (task.status, task.retry_count) == ("FAILED", 0)
    assert task.error_message == "HTTP 302（已发生3次，不再派发）"
    assert rests == [pytest.approx(s, abs=0.5) for s in (1, 2, 4)]
    assert (node.status, node.failure_count, node.task_failure_count) == ("ACTIVE", 3, 0)
    assert (await alerts(life, "rest:PROTOCOL:only")).count == 3


@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.LOST, Outcome.HANDED_BACK])
async def test_no_answer_never_ends_a_task(life, outcome):
    await life.node("only", [1])
    await life.create("t", max_retries=0)
    for _ in range(12):
        assert await life.claim("t") == "only"
        await life.end("t", outcome, "r")
        await wake(life)
    task, node = await life.task("t"), await life.gpu("only")
    assert (task.status, task.retry_count) == ("QUEUED", 0)
    assert (node.status, node.task_failure_count) == ("ACTIVE", 0)


async def test_hand_backs_in_a_row_rest_longer_each_time_and_call_for_people(life):
    await life.node("n", [1])
    await life.create("t")
    rests = []
    for _ in range(8):
        await life.claim("t")
        await life.end("t", Outcome.HANDED_BACK, "not now")
        rests.append(await rests_for(life, "n"))
        await wake(life)
    assert rests == [pytest.approx(s, abs=0.5) for s in (1, 2, 4, 8, 16, 32, 60, 60)]
    assert (await alerts(life, "rest:HANDS_BACK:n")).count == 6
    await life.claim("t")
    await life.end("t")
    assert (await life.gpu("n")).hand_backs == 0


async def test_a_node_that_refuses_for_more_than_a_minute_calls_for_people(life):
    await life.node("n", [1])
    await life.create("t")
    for number in range(1, 8):
        await life.claim("t")
        await life.end("t", Outcome.REFUSED, "HTTP 503")
        await wake(life)
        assert (await alerts(life, "rest:REFUSES:n") is not None) is (number >= 7)


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
    assert await rests_for(life, "n") == pytest.approx(1, abs=0.5)


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


async def test_an_excuse_reaches_a_node_that_has_gone(life):
    for gpu_id in ("n1", "n2", "n3"):
        await life.node(gpu_id, [1])
    await life.create("poison", max_retries=3)
    first, *_ = await fail_everywhere(life, "poison", "boom")
    assert (await life.gpu(first)).task_failure_count == 1
    await node_state.deregister(life.connection, first)
    await judge_nodes.excuse(life.connection, "poison", first)
    await life.node(first, [1])
    assert (await life.gpu(first)).task_failure_count == 0
