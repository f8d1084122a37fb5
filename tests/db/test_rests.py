"""The rests of nodes on the database: their lengths, their ends, and their alerts."""

from __future__ import annotations

import pytest

from infra.db.nodes import transitions as node_transitions
from infra.db.slots import free_nodes
from infra.db.transactions import node_state
from tests.db import rows
from workflows.domain.attempt import Outcome


async def test_one_task_that_fails_on_a_lone_node_ends_with_its_reason_and_the_node_goes_on(life):
    await life.node("only", [1])
    await life.create("t", max_retries=3)
    await life.fail_everywhere("t", "boom", "boom", "boom", "boom")
    node, task = await life.gpu("only"), await life.task("t")
    assert (node.status, node.task_failure_count, node.not_before) == ("ACTIVE", 4, None)
    assert (task.status, task.retry_count, task.error_message) == ("FAILED", 3, "boom")


async def test_a_lone_node_that_fails_three_distinct_tasks_rests_longer_each_time_until_it_succeeds(life):
    await life.node("only", [1], slots=4)
    rests = []
    for number in range(6):
        await life.create(f"t{number}", max_retries=0)
        await life.fail_everywhere(f"t{number}", f"boom {number}")
        rests.append(await life.rests_for("only"))
        await life.wake()
    assert rests == [None, None, *(pytest.approx(s, abs=0.5) for s in (1, 2, 4, 8))]
    node, alert = await life.gpu("only"), await life.alert("rest:FAILS:only")
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
    assert await life.rests_for("only") == pytest.approx(1, abs=0.5)
    await life.do("UPDATE gpus SET not_before = clock_timestamp()")
    await life.create("probe", max_retries=0)
    assert await life.claim("probe") == "only"
    await life.end("probe", Outcome.FAILED, "boom")
    assert await life.rests_for("only") == pytest.approx(2, abs=0.5)


async def test_a_moment_in_which_a_node_refuses_on_all_slots_costs_it_a_second(life):
    await life.node("n", [1], slots=8)
    for number in range(8):
        await life.create(f"t{number}")
        assert await life.claim(f"t{number}") == "n"
    for number in range(8):
        await life.end(f"t{number}", Outcome.REFUSED, "HTTP 503")
    assert (await life.gpu("n")).failure_count == 8
    assert await life.rests_for("n") == pytest.approx(1, abs=0.5)
    assert await life.alert("rest:REFUSES:n") is None


async def test_a_rest_is_not_cut_short_by_another_one(life):
    await life.node("n", [1])
    await life.create("t")
    assert await life.claim("t") == "n"
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s'")
    await life.end("t", Outcome.HANDED_BACK, "not now")
    assert await life.rests_for("n") == pytest.approx(50, abs=2)


async def test_a_rest_that_the_clock_has_put_out_of_reach_is_none(life):
    await life.node("n", [1])
    await life.do("UPDATE gpus SET rests = 1, failed_tasks = '{a,b}', not_before = clock_timestamp() + interval '2 h'")
    await life.create("t", max_retries=0)
    assert await life.claim("t") == "n"
    await life.end("t", Outcome.FAILED, "boom")
    assert await life.rests_for("n") == pytest.approx(2, abs=0.5)


async def test_a_probe_is_of_another_flow_than_the_last_failure(life):
    await life.node("only", [1])
    for number in range(3):
        await life.create(f"t{number}", max_retries=0, app="careless")
        await life.fail_everywhere(f"t{number}", "boom")
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s'")  # longer than the loop may take
    for number in range(20):
        await life.create(f"more{number}", app="careless")
        assert await life.claim(f"more{number}") is None
    await life.create("honest", app="careful")
    assert await life.claim("honest") is None
    await life.wake()
    await node_state.assign_unused_slots(life.connection, "only")
    assert await life.running() == {"honest": "only"}


async def test_where_no_other_flow_waits_the_same_one_is_the_probe(life):
    await life.node("only", [1])
    for number in range(4):
        await life.create(f"t{number}", max_retries=0)
    await life.fail_everywhere("t0", "boom")
    await life.fail_everywhere("t1", "boom")
    await life.fail_everywhere("t2", "boom")
    assert await life.claim("t3") is None
    await life.wake()
    assert await life.claim("t3") == "only"


async def test_hand_backs_in_a_row_rest_longer_each_time_and_call_for_people(life):
    await life.node("n", [1])
    await life.create("t")
    rests = []
    for _ in range(8):
        await life.claim("t")
        await life.end("t", Outcome.HANDED_BACK, "not now")
        rests.append(await life.rests_for("n"))
        await life.wake()
    assert rests == [pytest.approx(s, abs=0.5) for s in (1, 2, 4, 8, 16, 32, 60, 60)]
    assert (await life.alert("rest:HANDS_BACK:n")).count == 6
    await life.claim("t")
    await life.end("t")
    assert (await life.gpu("n")).hand_backs == 0


async def test_a_rest_after_hand_backs_outlasts_a_silence(life):
    await life.node("n", [1])
    await life.create("t")
    await life.claim("t")
    await life.end("t", Outcome.HANDED_BACK, "not now")
    before = (await life.gpu("n")).not_before
    await node_transitions.go_offline(life.connection, "n")
    await node_state.come_back(life.connection, "n")
    assert before is not None
    assert (await life.gpu("n")).not_before == before


async def test_a_node_that_refuses_for_more_than_a_minute_calls_for_people(life):
    await life.node("n", [1])
    await life.create("t")
    for number in range(1, 8):
        await life.claim("t")
        await life.end("t", Outcome.REFUSED, "HTTP 503")
        await life.wake()
        assert (await life.alert("rest:REFUSES:n") is not None) is (number >= 7)


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


async def test_free_slots_are_looked_for_without_a_look_at_the_tasks_that_do_not_wait(life):
    await rows.crowd(life.connection)
    for how_many in ("many", "none"):
        plan = "".join(await life.connection.all(str, f"EXPLAIN {free_nodes._WITH_UNUSED_SLOTS}"))
        assert "ix_tasks_queue" in plan, (how_many, plan)
        await life.connection.execute("UPDATE tasks SET waiting_since = NULL")
        await life.connection.execute("ANALYZE tasks")
