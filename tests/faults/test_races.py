"""Every row of INVARIANTS, "Races and their outcomes", reached for certain: contenders are seen to wait for one lock.

| race | test |
|---|---|
| result after TIMEOUT or of a closed attempt | test_a_result_that_waits_behind_the_timeout_is_late |
| result from another GPU's key | no race: the tests of keys |
| the same result twice; a different second one | test_two_equal_results_…, test_of_two_different_results_… |
| result arrives while the rescuer requeues the task | test_the_rescuer_first_…, test_the_result_first_… |
| heartbeat of a FAULTY node | test_a_beat_that_crosses_the_fault_does_not_bring_the_node_back |
| deregistration with running tasks | test_a_claim_that_waits_behind_the_deregistration_…; e2e/test_task_life.py |
| same gpuId registers from another host | test_a_result_that_waits_behind_the_registration_of_another_host_is_late |
| a gpuId becomes another key's before a body has come | tests/api/test_held_bodies.py; db/test_whose_node.py |
| fault during dispatch | test_a_dispatch_that_lands_after_the_fault_is_late |
| recover while the offline timer fires | test_the_offline_timer_that_waits_behind_recover_does_nothing |
| a claim while the node's drain begins | test_a_claim_that_waits_behind_the_drain_gets_nothing |
| a result while the drain's deadline passes | test_a_result_that_waits_behind_the_hand_back_of_a_drain_is_late |
| a claim while the priority is changed | test_a_priority_that_waits_behind_a_claim_is_refused |
| a cancel | the table of `test_races_of_cancels` |
| a person's signal during a recover by REST | db/test_node_commands.py: test_a_fault_and_a_recover_… |
| two API processes, the same call at once | e2e/test_cluster.py: test_fault_and_recover_that_wait_for_one_lock_… |
| node paused past its grace, then resumed | e2e/test_agent_killed.py: test_paused_past_its_grace_… |
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from infra.db.attempts import queries as attempt_queries
from infra.db.nodes import drains
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.drains import Drain
from infra.db.nodes.queries import Registration
from infra.db.slots import assign
from infra.db.transactions import attend_node, node_state, settle_attempt
from tests.conftest import eventually
from tests.e2e.inside import select
from tests.faults.contention import CHANGES_NODE, CHANGES_PRIORITY, CLAIMS, HOLDS_NODE, SETTLES, held
from workflows.domain.attempt import End, Outcome

SLOW = 40.0


async def settle(connection: Any, put: Any, outcome: Outcome, **more: Any) -> Any:
    settled = await settle_attempt.settle(connection, put.task_id, 1, End(outcome, "r", **more), actor="test")
    return settled.notifications if settled.answer is settle_attempt.SettleResult.SETTLED else None


async def notify(temporal: Any, task_id: str) -> None:
    """The signal that follows the commit."""
    await temporal.get_workflow_handle(f"task-{task_id}").signal("settled", 1)


async def running(api: Any, node: Any, task_type: int, **more: Any) -> Any:
    """A task that runs on the node."""
    task_id = await api.create(task_type, **more)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    return put


async def statuses(api: Any, task_id: str) -> list[str]:
    return [event["to"] for event in await api.get(f"/tasks/{task_id}/events")]


async def late(stack: Any, task_id: str) -> list[dict[str, Any]]:
    return await select(stack, "SELECT attempt, kind FROM late_reports WHERE task_id = %s", task_id)


AGED = "UPDATE gpu_beats SET at = at - interval '1 h' WHERE gpu_id = %(gpu_id)s"
LATE_RESULT = [{"attempt": 1, "kind": "result"}]


async def test_a_result_that_waits_behind_the_timeout_is_late(api, make_node, stack, temporal):
    put = await running(api, await make_node("race_timeout", [960]), 960, maxRetries=0)
    async with held(stack) as timeout:
        assert await settle(timeout.connection, put, Outcome.TIMED_OUT) is not None
        result = asyncio.create_task(api.succeed(put, {}, code=400))
        await timeout.until_waiting(SETTLES)
        await timeout.commit()
        await result
    assert await late(stack, put.task_id) == LATE_RESULT
    await notify(temporal, put.task_id)
    await api.until(put.task_id, "TIMEOUT")
    await api.succeed(put, {}, code=400)
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "TIMEOUT"]
    assert await late(stack, put.task_id) == LATE_RESULT


async def test_two_equal_results_at_once_are_both_answered_200(api, make_node, stack):
    put = await running(api, await make_node("race_equal", [961]), 961)
    async with held(stack) as lock:
        await lock.lock_node("race_equal")
        results = [asyncio.create_task(api.succeed(put, {"n": 1})) for _ in range(2)]
        await lock.until_waiting(SETTLES, SETTLES)
        await lock.commit()
        await asyncio.gather(*results)
    await api.until(put.task_id, "COMPLETED")
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert await late(stack, put.task_id) == []


async def test_of_two_different_results_at_once_the_first_counts(api, make_node, stack):
    put = await running(api, await make_node("race_different", [962]), 962)
    async with held(stack) as lock:
        await lock.lock_node("race_different")
        first = asyncio.create_task(api.succeed(put, {"n": 1}))
        await lock.until_waiting(SETTLES)
        second = asyncio.create_task(api.succeed(put, {"n": 2}, code=400))
        await lock.until_waiting(SETTLES, SETTLES)
        await lock.commit()
        await asyncio.gather(first, second)
    await api.until(put.task_id, "COMPLETED")
    assert (await api.get(f"/tasks/{put.task_id}/result"))["result"]["n"] == 1
    assert await late(stack, put.task_id) == LATE_RESULT


async def test_the_rescuer_first_makes_the_result_late(api, make_node, stack, temporal):
    put = await running(api, await make_node("race_rescued", [963]), 963)
    async with held(stack) as rescuer:
        assert await settle(rescuer.connection, put, Outcome.LOST) is not None
        result = asyncio.create_task(api.succeed(put, {}, code=400))
        await rescuer.until_waiting(SETTLES)
        await rescuer.commit()
        await result
    assert await late(stack, put.task_id) == LATE_RESULT
    await notify(temporal, put.task_id)
    heir = await make_node("race_rescued_2", [963])
    await api.ask("DELETE", "/gpus/race_rescued")
    again = await heir.next_put(SLOW)
    await api.succeed(again, {"n": 2})
    assert (await api.until(put.task_id, "COMPLETED"))["retryCount"] == 0
    assert (await api.get(f"/tasks/{put.task_id}/result"))["result"]["n"] == 2


async def test_the_result_first_leaves_the_rescuer_nothing(api, make_node, stack, database):
    put = await running(api, await make_node("race_in_time", [964]), 964)
    assert await database.run(lambda c: attempt_queries.open_on(c, "race_in_time"))  # the rescuer has read it
    async with held(stack) as lock:
        await lock.lock_node("race_in_time")
        result = asyncio.create_task(api.succeed(put, {"n": 1}))
        await lock.until_waiting(SETTLES)
        rescuer = asyncio.create_task(database.run(lambda c: settle(c, put, Outcome.LOST)))
        await lock.until_waiting(SETTLES, SETTLES)
        await lock.commit()
        await result
        assert await rescuer is None
    await api.until(put.task_id, "COMPLETED")
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert await late(stack, put.task_id) == []


async def test_a_beat_that_crosses_the_fault_does_not_bring_the_node_back(api, make_node, stack, database):
    await make_node("race_beat", [965], beats=False)
    await database.run(lambda c: node_transitions.go_offline(c, "race_beat"))
    before = (await api.get("/gpus/race_beat"))["lastHeartbeat"]
    async with held(stack) as fault:
        assert (await node_state.fault(fault.connection, "race_beat", "fan")).nodes
        beat = asyncio.create_task(api.post("/gpus/race_beat/heartbeat"))
        await fault.until_waiting(CHANGES_NODE)
        await fault.commit()
        assert await beat == "心跳更新成功"
    gpu = await api.get("/gpus/race_beat")
    assert gpu["status"] == "FAULTY"
    assert gpu["lastHeartbeat"] > before


async def test_a_claim_that_waits_behind_the_deregistration_gets_nothing(api, make_node, stack, temporal):
    node = await make_node("race_gone", [966], beats=False)
    async with held(stack) as lock:
        await lock.lock_node("race_gone")
        deregistration = asyncio.create_task(api.ask("DELETE", "/gpus/race_gone"))
        await lock.until_waiting(CHANGES_NODE)
        task_id = await api.create(966)
        await lock.until_waiting(CHANGES_NODE, CLAIMS)
        await lock.commit()
        await deregistration
    workflow = temporal.get_workflow_handle(f"task-{task_id}")

    async def waits() -> bool:
        details = (await workflow.query("__temporal_workflow_metadata")).current_details
        return str(details).startswith("waiting")

    await eventually(waits)
    assert await select(stack, "SELECT FROM attempts WHERE task_id = %s", task_id) == []
    assert node.puts.empty()
    heir = await make_node("race_gone_2", [966])
    await api.succeed(await heir.next_put(), {})
    await api.until(task_id, "COMPLETED")


async def test_a_claim_that_waits_behind_the_drain_gets_nothing(api, make_node, stack):
    node = await make_node("race_drain", [973], beats=False)
    async with held(stack) as drain:
        assert await node_state.drain(drain.connection, "race_drain", Drain("ops", "fan"))
        task_id = await api.create(973)
        await drain.until_waiting(CLAIMS)
        await drain.commit()

    async def waits() -> bool:
        return "waiting" in await api.get(f"/tasks/{task_id}/progress")

    await eventually(waits)
    assert await select(stack, "SELECT FROM attempts WHERE task_id = %s", task_id) == []
    await api.post("/gpus/race_drain/undrain")
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")


async def test_a_priority_that_waits_behind_a_claim_is_refused(api, make_node, stack):
    await make_node("race_priority", [655])
    await api.post("/gpus/race_priority/drain", {"reason": "race"})
    task_id = await api.create(655)
    async with held(stack) as claim:
        await claim.lock_node("race_priority")
        await claim.connection.execute(drains._UNDRAIN, {"gpu_id": "race_priority"})
        (granted,) = await assign.assign(claim.connection, "race_priority")  # as a task of another type does
        assert granted.task.task_id == task_id
        change = asyncio.create_task(api.ask("PATCH", f"/tasks/{task_id}", json={"priority": 3}, code=400))
        await claim.until_waiting(CHANGES_PRIORITY)
        await claim.commit()
        await change
    assert (await api.get(f"/tasks/{task_id}"))["priority"] == 1
    await api.post(f"/tasks/{task_id}/cancel")


async def test_a_result_that_waits_behind_the_hand_back_of_a_drain_is_late(api, make_node, stack, temporal):
    put = await running(api, await make_node("race_due", [974]), 974)
    async with held(stack) as leader:
        await node_state.drain(leader.connection, "race_due", Drain("ops", "fan", datetime.now(UTC)))
        assert (await node_state.hand_back(leader.connection, "race_due")).closed
        result = asyncio.create_task(api.succeed(put, {}, code=400))
        await leader.until_waiting(SETTLES)
        await leader.commit()
        await result
    assert await late(stack, put.task_id) == LATE_RESULT
    heir = await make_node("race_due_2", [974])
    await notify(temporal, put.task_id)
    await api.succeed(await heir.next_put(SLOW), {})
    assert (await api.until(put.task_id, "COMPLETED"))["retryCount"] == 0
    await api.post("/gpus/race_due/undrain")


async def test_a_result_that_waits_behind_the_registration_of_another_host_is_late(api, make_node, stack, temporal):
    put = await running(api, await make_node("race_moved", [967]), 967)
    elsewhere = await make_node("race_moved_host", [999], beats=False)
    (before,) = await select(stack, "SELECT epoch, lineage FROM gpus WHERE gpu_id = 'race_moved'")
    node = Registration(
        "race_moved", "h2", None, "127.0.0.1", elsewhere.port, [967], "NORMAL", "1", 1, {}, None, before["lineage"]
    )
    async with held(stack) as registration:
        await node_state.register(registration.connection, node)
        result = asyncio.create_task(api.succeed(put, {}, code=400))
        await registration.until_waiting(SETTLES)
        await registration.commit()
        await result
    assert await late(stack, put.task_id) == LATE_RESULT
    (after,) = await select(stack, "SELECT epoch FROM gpus WHERE gpu_id = 'race_moved'")
    assert after["epoch"] == before["epoch"] + 1
    await notify(temporal, put.task_id)
    again = await elsewhere.next_put()
    assert again.run_id == f"{put.task_id}-2"
    await api.succeed(again, {"n": 2})
    assert (await api.until(put.task_id, "COMPLETED"))["retryCount"] == 0


async def test_a_dispatch_that_lands_after_the_fault_is_late(api, make_node, stack):
    node = await make_node("race_dispatch", [968])
    node.hold = asyncio.Event()
    task_id = await api.create(968)
    put = await node.next_put()  # and no answer to it yet
    await api.post("/gpus/race_dispatch/fault?reason=fan")

    async def is_closed() -> Any:
        return await select(
            stack, "SELECT outcome, accepted_at FROM attempts WHERE task_id = %s AND closed_at IS NOT NULL", task_id
        )

    assert await eventually(is_closed) == [{"outcome": "FAULTY", "accepted_at": None}]
    node.hold.set()
    await api.succeed(put, {}, code=400)
    assert await late(stack, task_id) == LATE_RESULT
    heir = await make_node("race_dispatch_2", [968])
    await api.succeed(await heir.next_put(SLOW), {})
    task = await api.until(task_id, "COMPLETED")
    assert (task["gpuId"], task["retryCount"]) == ("race_dispatch_2", 0)
    assert await statuses(api, task_id) == ["QUEUED", "PROCESSING", "COMPLETED"]


async def test_the_offline_timer_that_waits_behind_recover_does_nothing(api, make_node, stack, database):
    await make_node("race_timer", [975], beats=False)
    await api.post("/gpus/race_timer/fault?reason=fan")
    async with held(stack) as recovery:
        await recovery.connection.execute(AGED, {"gpu_id": "race_timer"})  # silent, but for the recovery
        assert (await node_state.recover(recovery.connection, "race_timer")).nodes
        timer = asyncio.create_task(database.run(lambda c: attend_node.go_offline(c, "race_timer", 5)))
        await recovery.until_waiting(HOLDS_NODE)
        await recovery.commit()
        assert await timer is False
    assert (await api.get("/gpus/race_timer"))["status"] == "ACTIVE"
    assert [one["title"] for one in await api.alerts("race_timer")] == ["GPU故障告警"]
