"""Operators signal a node's workflow, in Temporal's Web UI or with its client: as the REST call does (B1)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

from infra.db.transactions.obey_command import NO_REASON
from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import is_started
from tests.e2e.test_outages import without
from tests.fake_node import FakeNode
from workflows.domain.limits import MAX_REASON

CAME_BETWEEN = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND


def raw(data: bytes, encoding: bytes = b"json/plain") -> RawValue:
    """An input as anyone may send it, whatever its encoding promises."""
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


@pytest.fixture
def make_node(make_node: MakeNode, temporal: Client) -> MakeNode:
    """Makes nodes whose workflows run: a registration starts them in the background."""

    async def make(gpu_id: str, types: list[int], **more: Any) -> FakeNode:
        node = await make_node(gpu_id, types, **more)

        async def runs() -> bool:
            try:
                return bool((await temporal.get_workflow_handle(f"gpu-{gpu_id}").describe()).run_id)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False

        await eventually(runs)
        return node

    return make


async def signal(temporal: Client, gpu_id: str, name: str, *inputs: Any) -> None:
    await temporal.get_workflow_handle(f"gpu-{gpu_id}").signal(name, args=inputs)


async def audited(api: Api, gpu_id: str) -> list[tuple[str, str, str]]:
    """Action, reason and outcome of what persons have done by signals, the oldest first."""
    entries = await api.get("/audit?owner=temporal&size=100")
    assert all(one["keyId"].startswith("temporal:") and one["role"] is None for one in entries)
    about = [one for one in reversed(entries) if one["subject"] == gpu_id]
    return [(one["action"], one["detail"], one["outcome"]) for one in about]


async def state_of(temporal: Client, workflow_id: str) -> dict[str, Any]:
    state: dict[str, Any] = await temporal.get_workflow_handle(workflow_id).query("state")
    return state


async def failed_steps(temporal: Client, workflow_id: str) -> list[str]:
    """Workflow tasks that failed, in any run; not those that the server repeats since a signal came between."""
    kept = [one async for one in temporal.list_workflows(f"WorkflowId='{workflow_id}'")]
    handles = [temporal.get_workflow_handle(one.id, run_id=one.run_id) for one in kept]
    events = [event for one in handles for event in (await one.fetch_history()).events]
    kind = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    failed = [event.workflow_task_failed_event_attributes for event in events if event.event_type == kind]
    return [str(one.failure) for one in failed if one.cause != CAME_BETWEEN]


async def test_fault_and_recover_do_what_the_rest_calls_do(api, temporal, make_node):
    node = await make_node("signalled", [920])
    task = await api.create(920)
    first = await node.next_put()
    await api.until(task, "PROCESSING")
    other = await make_node("signalled_other", [920])
    await signal(temporal, "signalled", "fault", {"reason": "ECC errors"})
    await api.gpu_until("signalled", "FAULTY")
    assert (await other.next_put()).task_id == task  # its attempt is closed, and the task assigned elsewhere
    await api.succeed(first, {}, code=400)
    (alert,) = [one for one in await api.alerts("signalled ") if one["level"] == "CRITICAL"]
    assert "ECC errors" in alert["message"]

    await signal(temporal, "signalled", "recover", {"reason": "memory replaced"})
    await api.gpu_until("signalled", "ACTIVE")
    assert await audited(api, "signalled") == [
        ("gpu.fault", "ECC errors", "DONE"),
        ("gpu.recover", "memory replaced", "DONE"),
    ]
    await api.create(920)
    await node.next_put()  # it works again
    assert await failed_steps(temporal, "gpu-signalled") == []


INPUTS: list[tuple[Sequence[Any], str]] = [
    ([], NO_REASON),
    ([None], NO_REASON),
    ([{}], NO_REASON),
    (["fan"], "fan"),
    ([{"reason": "fan", "since": 3}], "fan"),
    ([{"reason": ["fan"]}], NO_REASON),
    ([{"reason": "a\x00b\n\ud800c"}], "a b c"),
    ([{"reason": "x" * 10_000}], "x" * MAX_REASON),
    ([{"reason": "fan"}, {"reason": "other"}], "fan"),
    ([{"epoch": "1"}], NO_REASON),
    ([17], NO_REASON),
    ([{"reason": "fan"}, 2, None], "fan"),
    ([raw(b'{"reason": ')], NO_REASON),
    ([raw(b"\xff\x00", b"binary/encrypted")], NO_REASON),
    ([raw(b"", b"")], NO_REASON),
]


async def test_whatever_the_input_holds_no_workflow_task_fails(api, temporal, make_node):
    await make_node("mistyped", [921])
    for inputs, _ in INPUTS:
        await signal(temporal, "mistyped", "fault", *inputs)
        await api.gpu_until("mistyped", "FAULTY")
        await signal(temporal, "mistyped", "recover", *inputs)
        await api.gpu_until("mistyped", "ACTIVE")
    expected = [(action, reason) for _, reason in INPUTS for action in ("gpu.fault", "gpu.recover")]
    assert [entry[:2] for entry in await audited(api, "mistyped")] == expected
    assert await failed_steps(temporal, "gpu-mistyped") == []


async def test_a_signal_that_means_nothing_does_no_harm(api, temporal, make_node):
    node = await make_node("teased", [922])
    for name in ("register", "heartbeat", "silent", "deregister", "explode", "FAULT", "fault", "recover"):
        for inputs in ([], [{"epoch": 1}], [{"epoch": 1}, 2], [raw(b"{")]):
            if inputs or name not in ("fault", "recover"):
                await signal(temporal, "teased", name, *inputs)
    await signal(temporal, "teased", "recover")
    await eventually(lambda: audited(api, "teased"))
    task = await api.create(922)
    await api.succeed(await node.next_put(), {})
    await api.until(task, "COMPLETED")
    assert await failed_steps(temporal, "gpu-teased") == []


async def test_a_node_answers_with_its_state(api, temporal, make_node):
    node = await make_node("asked", [928])
    await api.create(928)
    await node.next_put()
    await signal(temporal, "asked", "recover")  # changes nothing, but it looks

    async def state() -> dict[str, Any] | None:
        found = await state_of(temporal, "gpu-asked")
        return found if found["running_attempts"] else None

    found = await eventually(state)
    assert datetime.fromisoformat(found.pop("as_of")).tzinfo is not None
    assert found == {"status": "ACTIVE", "epoch": 1, "running_attempts": 1, "draining": False}


async def test_a_task_answers_with_its_state(api, temporal, make_node):
    node = await make_node("answering", [929])
    first, second = [await api.create(929) for _ in range(2)]
    put = await node.next_put()
    await api.until(first, "PROCESSING")

    async def until(task_id: str, **expected: Any) -> None:
        async def is_so() -> bool:
            state = await state_of(temporal, f"task-{task_id}")
            return all(re.fullmatch(str(value), str(state[name])) for name, value in expected.items())

        await eventually(is_so)

    running = "running on answering, attempt 1"
    await until(first, status="PROCESSING", attempt=1, gpu_id="answering", now=running)
    await api.succeed(put, {})
    await until(first, status="COMPLETED", attempt=1, gpu_id="answering", now="COMPLETED on answering, attempt 1")
    await api.succeed(await node.next_put(), {})
    await until(second, status="COMPLETED", attempt=1, gpu_id="answering")


async def test_a_task_takes_no_harm_by_signals(api, temporal, make_node):
    """Anyone with access to Temporal may send the program's own signals with any input."""
    node = await make_node("unharmed", [930])
    task = await api.create(930)
    put = await node.next_put()
    handle = temporal.get_workflow_handle(f"task-{task}")
    for name in ("granted", "settled", "look", "explode"):
        for inputs in ([], [None], ["x"], [{"attempt": "x"}], [1, 2], [raw(b"{")]):
            if (name, inputs) != ("look", []):
                await handle.signal(name, args=inputs)
    await api.until(task, "PROCESSING")
    await api.succeed(put, {})
    await api.until(task, "COMPLETED")
    assert await failed_steps(temporal, f"task-{task}") == []


async def test_a_waiting_task_takes_no_harm_by_grants_of_strangers(api, temporal, make_node):
    """Grants of an unknown attempt, and of an impossible one, do not keep a task from its own grant.

    Such signals begin nothing; they are read with its grant, or after a retry at once.
    """
    node = await make_node("unmoved", [931])
    retried = await api.create(931)
    first = await node.next_put()
    other, unbegun = [await api.create(931) for _ in range(2)]
    await api.say(first, "FAILED", "boom")
    running = await node.next_put()
    assert running.task_id == other
    retried_now = temporal.get_workflow_handle(f"task-{retried}")

    async def waits() -> bool:
        state = await retried_now.query("state")
        return bool(state["attempt"] == 1 and state["now"].startswith("waiting: "))

    await eventually(waits)
    await eventually(lambda: is_started(temporal, unbegun))
    for task in (retried, unbegun):
        handle = temporal.get_workflow_handle(f"task-{task}")
        for attempt in (99, 10**12, -1):
            await handle.signal("granted", {"attempt": attempt, "gpu_id": "nobody"})
        await handle.signal("settled", 10**30)

    async def has_tried_it() -> bool:
        return "as-before" in (await retried_now.describe()).search_attributes.get("TemporalChangeVersion", [])

    await eventually(has_tried_it)
    await eventually(waits)
    await api.succeed(running, {})
    for _ in (unbegun, retried):
        await api.succeed(await node.next_put(), {})
    for task in (unbegun, retried):
        await api.until(task, "COMPLETED")
        assert await failed_steps(temporal, f"task-{task}") == []


async def test_a_nodes_workflow_that_was_ended_runs_again(api, temporal, make_node):
    """A node that beats sends its workflow nothing; without one it could be given no command."""

    async def ended_by(how: str) -> None:
        gpu_id = f"ended_by_{how}"
        await make_node(gpu_id, [732])
        handle = temporal.get_workflow_handle(f"gpu-{gpu_id}")
        first = (await eventually(partial(described, handle))).run_id
        await getattr(handle, how)()

        async def has_a_new_run() -> bool:
            found = await handle.describe()
            return found.run_id != first and found.status is WorkflowExecutionStatus.RUNNING

        await eventually(has_a_new_run, within=40)
        await signal(temporal, gpu_id, "fault", {"reason": "fan"})
        await api.gpu_until(gpu_id, "FAULTY")

    await asyncio.gather(ended_by("cancel"), ended_by("terminate"))


async def described(handle: WorkflowHandle[Any, Any]) -> Any:
    """The state of a workflow, once it was started."""
    try:
        return await handle.describe()
    except RPCError:
        return None


async def test_a_repeated_command_changes_nothing(api, temporal, make_node):
    await make_node("twice_sent", [924])
    for name in ("fault", "fault", "recover", "recover"):
        await signal(temporal, "twice_sent", name)

    async def all_are_recorded() -> bool:
        return len(await audited(api, "twice_sent")) == 4

    await eventually(all_are_recorded)
    outcomes = [(action, outcome) for action, _, outcome in await audited(api, "twice_sent")]
    assert outcomes == [
        ("gpu.fault", "DONE"),
        ("gpu.fault", "UNCHANGED"),
        ("gpu.recover", "DONE"),
        ("gpu.recover", "UNCHANGED"),
    ]
    assert len(await api.alerts("twice_sent ")) == 1


async def test_a_command_waits_for_postgres(stack, api, temporal, make_node):
    await make_node("patient", [925])
    async with without(stack, "postgres"):
        await signal(temporal, "patient", "fault", {"reason": "fan"})
        await asyncio.sleep(1)  # some tries fail
    await api.gpu_until("patient", "FAULTY", within=40)
    assert await audited(api, "patient") == [("gpu.fault", "fan", "DONE")]


async def test_unknown_and_deregistered_nodes(api, temporal, make_node):
    """Their workflows don't run: Temporal says so, and nothing else happens."""
    await make_node("gone_soon", [926])
    await api.ask("DELETE", "/gpus/gone_soon")

    async def not_found() -> bool:
        try:
            await signal(temporal, "gone_soon", "fault", {"reason": "fan"})
        except RPCError as error:
            return error.status is RPCStatusCode.NOT_FOUND
        return False

    await eventually(not_found)
    with pytest.raises(RPCError, match="not found"):
        await signal(temporal, "never_registered", "fault")
    assert await audited(api, "gone_soon") == []
    assert await failed_steps(temporal, "gpu-gone_soon") == []


async def test_a_signal_and_a_rest_call_at_once_count_in_their_order(api, temporal, make_node):
    """Whatever the order: the last that is recorded is what the node is."""
    await make_node("contested", [927])
    for _ in range(3):
        await asyncio.gather(
            signal(temporal, "contested", "fault", {"reason": "fan"}), api.post("/gpus/contested/recover")
        )
    entries: list[dict[str, Any]] = []

    async def all_are_recorded() -> bool:
        entries[:] = [one for one in await api.get("/audit?size=100") if one["subject"] == "contested"]
        return len([one for one in entries if one["action"] != "gpu.register"]) == 6

    await eventually(all_are_recorded)
    last = next(one for one in entries if one["outcome"] == "DONE")
    status = (await api.get("/gpus/contested"))["status"]
    assert status == ("FAULTY" if last["action"] == "gpu.fault" else "ACTIVE"), json.dumps(entries, ensure_ascii=False)
