"""The Python client on the real stack, whose API dies and pauses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from gpu_orchestrator_client import (
    AsyncClient,
    BadRequest,
    Client,
    End,
    NotFound,
    NotYet,
    Snapshot,
    Status,
    TaskFailed,
    Unauthorized,
)
from tests.conftest import eventually
from tests.e2e.inside import select

HUNDRED = Path(__file__).parents[1] / "client" / "hundred.py"
TASKS = 100
KILLS = int(os.environ.get("CLIENT_KILLS", "2"))
STOPPED_S = float(os.environ.get("CLIENT_STOPPED_S", "0"))
PYTHON = os.environ.get("CLIENT_PYTHON", sys.executable)


@pytest.fixture
async def client(stack):
    async with AsyncClient(
        stack.settings.local_url, stack.api_key.secret.get_secret_value(), app="client", user_id="client"
    ) as found:
        yield found


class Work:
    """Reports the payload of each PUT to a node as its result, until that is answered. Pauses once `due` are done."""

    def __init__(self, api, node):
        self.api, self.node = api, node
        self.done, self.due = 0, TASKS
        self.moved = asyncio.Condition()

    async def run(self):
        while True:
            put = await self.node.next_put(within=300)
            await self.until(lambda: self.done < self.due)
            await self.report(put, {"n": put.body["input"]["n"]})
            await self.move(done=self.done + 1)

    async def report(self, put, result):
        body, headers = {"result": json.dumps(result)}, {"X-Attempt-Token": put.token}
        while True:
            with suppress(httpx.TransportError):
                answer = await self.api.http.post(f"/tasks/{put.task_id}/result", json=body, headers=headers)
                if answer.status_code < 500:  # what comes late is refused, and comes again
                    return
            await asyncio.sleep(0.1)

    async def until(self, condition):
        async with self.moved:
            await self.moved.wait_for(condition)

    async def move(self, **changed):
        async with self.moved:
            self.__dict__.update(changed)
            self.moved.notify_all()


@pytest.fixture
async def working(api, make_node):
    """The work of a node of type 820."""
    work = Work(api, await make_node("of_clients", [820], maxConcurrentTasks=4))
    task = asyncio.create_task(work.run())
    yield work
    task.cancel()


@asynccontextmanager
async def hundred(stack):
    """The script in a process of its own."""
    known = {
        "GPU_ORCHESTRATOR_URL": stack.settings.local_url,
        "GPU_ORCHESTRATOR_KEY": stack.api_key.secret.get_secret_value(),
    }
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-I", HUNDRED, "820", str(TASKS), env=known, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def trouble(stack, work, script):
    """Kill the API whenever a part of the work is done; in the middle the script is stopped."""
    api = stack.part("api")
    for turn in range(1, KILLS + 1):
        await work.move(due=TASKS * turn // (KILLS + 1))
        await work.until(lambda: work.done >= work.due)
        if turn == (KILLS + 1) // 2:
            script.send_signal(signal.SIGSTOP)
        api.kill()
        await api.until_ready(120)
        if turn == (KILLS + 1) // 2:
            await asyncio.sleep(STOPPED_S)
            script.send_signal(signal.SIGCONT)
    await work.move(due=2 * TASKS)


@pytest.mark.timeout(900)
async def test_a_hundred_results_come_in_order_while_the_api_is_killed_and_the_client_stopped(stack, working):
    """The long form has CLIENT_KILLS=10, CLIENT_STOPPED_S=30, and CLIENT_PYTHON from `python -m tests.client.bare`."""
    await working.move(due=0)
    async with hundred(stack) as script, asyncio.TaskGroup() as group:
        group.create_task(trouble(stack, working, script))
        found = [json.loads(line)["n"] async for line in script.stdout]
    await (
        script.wait()
    )  # a signal may take its status away (`Popen.send_signal` polls): what it has printed is the proof
    assert found == list(range(TASKS))
    rows = await select(stack, "SELECT payload, count(*) AS n FROM tasks WHERE task_type = 820 GROUP BY payload")
    assert {json.loads(row["payload"])["n"]: row["n"] for row in rows} == dict.fromkeys(range(TASKS), 1)


async def test_a_task_is_watched_to_its_end(client, working):
    created = await client.submit(820, {"n": 7})
    updates = [update async for update in client.watch(created.task_id)]
    assert isinstance(updates[0], Snapshot)
    assert isinstance(updates[-1], End)
    assert updates[-1].task.status is Status.COMPLETED
    assert (await client.task(created.task_id)).status is Status.COMPLETED


async def test_what_waits_is_cancelled_after_the_callers_time(client):
    created = await client.submit(821, {})
    with pytest.raises(NotYet):
        await client.result(created.task_id, timeout=0.5)
    with pytest.raises(NotYet):
        await client.result(created.task_id, timeout=0.5, cancel_on_timeout=True)
    with pytest.raises(TaskFailed, match="CANCELLED"):
        await client.result(created.task_id)


async def test_tasks_are_steered_one_and_many(client):
    one, two = [(await client.submit(822, {})).task_id for _ in range(2)]
    await client.set_priority(one, 3)
    await client.cancel(one, "no longer needed")
    assert (await client.cancel_many(filter={"taskType": 822}, dry_run=True)).matched == 1
    operation = await client.cancel_many(filter={"taskType": 822})

    async def is_done():
        return (await client.operation(operation.operation_id)).state == "DONE"

    await eventually(is_done)
    assert {task.status async for task in client.tasks(taskType=822)} == {Status.FAILED}
    again = await client.retry(two)
    assert (await client.task(again.task_id)).retry_of == two
    await client.cancel(again.task_id)
    with pytest.raises(BadRequest):
        await client.set_priority(two, 1)


async def test_the_same_for_ordinary_code(stack, working):
    def script():
        with Client(stack.settings.local_url, stack.api_key.secret.get_secret_value()) as client:
            created = client.submit(820, {"n": 1})
            seen = [update.kind for update in client.watch(created.task_id)]
            events = list(client.events(types=["task.created"]))
            return client.result(created.task_id), seen, events

    result, seen, events = await asyncio.to_thread(script)
    assert result["n"] == 1
    assert (seen[0], seen[-1]) == ("snapshot", "end")
    assert all(event.type == "task.created" for event in events)


async def test_refusals_are_errors_by_their_code(client, stack):
    with pytest.raises(NotFound, match="任务"):
        await client.task("task_unknown")
    async with AsyncClient(stack.settings.local_url, "wrong") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.nodes()
