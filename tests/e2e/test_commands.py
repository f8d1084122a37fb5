"""The commands that call the API, on the real stack and on a real terminal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.terminal import CTRL_C, terminal

PROGRAM = (sys.executable, "-m", "workers.cli")


@pytest.fixture
def env(stack, tmp_path):
    return {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path),
        "GPU_ORCHESTRATOR_URL": stack.settings.local_url,
        "GPU_ORCHESTRATOR_KEY": stack.api_key.secret.get_secret_value(),
        "TERM": "xterm-256color",
    }


@pytest.fixture
def job(tmp_path: Path) -> str:
    (tmp_path / "job.json").write_text('{"input": "图.png"}')
    return str(tmp_path / "job.json")


async def started(*words, env):
    return await asyncio.create_subprocess_exec(
        *(*PROGRAM, *words),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # without a terminal nobody is asked
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell may have it ignored
    )


async def done(*words, env):
    """(exit status, standard output, standard error)."""
    process = await started(*words, env=env)
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_person_watches_place_then_bar_then_result(api, make_node, env, job):
    node = await make_node("of_terminal", [870])
    first = await api.create(870)
    held = await node.next_put()
    submit = ("submit", "--type", "870", "-f", job, "--watch", "--app", "终端", "--user", "user_001")
    async with terminal(*PROGRAM, *submit, env=env) as screen:
        await screen.until("place 1")
        await screen.until("full")  # why it waits
        await api.succeed(held, {"n": 1})
        assert held.task_id == first
        put = await node.next_put()
        assert put.body["input"] == {"input": "图.png"}
        await api.say(put, "PROCESSING", progress=65)
        await screen.until("65 %")
        assert "━" in screen.screen
        await api.succeed(put, {"image": "结果.png"})
        assert await screen.ended() == 0
        assert "COMPLETED after" in screen.screen
        assert '"image": "结果.png"' in screen.screen


async def test_ctrl_c_asks_leaves_and_cancels(api, env):
    task_id = await api.create(871)
    async with terminal(*PROGRAM, "watch", task_id, env=env) as screen:
        await screen.until("waits")
        screen.type(CTRL_C)
        await screen.until(f"Cancel {task_id}?")
        screen.type(CTRL_C)
        assert await screen.ended() == 130
        assert f"{task_id} goes on" in screen.screen
    assert (await api.get(f"/tasks/{task_id}"))["status"] == "QUEUED"
    async with terminal(*PROGRAM, "watch", task_id, env=env) as screen:
        await screen.until("waits")
        screen.type(CTRL_C)
        await screen.until(f"Cancel {task_id}?")
        screen.type("y\r")
        assert await screen.ended() == 4
        assert "CANCELLED" in screen.screen
    assert (await api.get(f"/tasks/{task_id}"))["endReason"] == "CANCELLED"


async def test_where_there_is_no_terminal_ctrl_c_leaves(api, env):
    task_id = await api.create(872)
    process = await started("watch", task_id, env=env)
    async with asyncio.timeout(20):
        assert (await process.stderr.readline()).startswith(b"waits")
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    assert (process.returncode, output) == (130, b"")
    assert f"gpu-orchestrator watch {task_id}" in errors.decode()
    assert (await done("cancel", "--type", "872", env=env))[0] == 0
    assert (await api.get(f"/tasks/{task_id}"))["endReason"] == "CANCELLED"


async def test_the_exit_status_is_the_tasks_and_a_failed_one_is_retried(api, make_node, env, job):
    node = await make_node("of_scripts", [873])
    submitting = asyncio.create_task(
        done("submit", "--type", "873", "-f", job, "--max-retries", "0", "--watch", "--json", env=env)
    )
    await api.say(await node.next_put(), "FAILED", "显存不足")
    status, output, _ = await submitting
    end = json.loads(output.splitlines()[-1])
    assert (status, end["kind"], end["data"]["errorMessage"]) == (1, "end", "显存不足")
    status, output, _ = await done(
        "retry", "--failed", "--type", "873", "--since", "1h", "--dry-run", "--json", env=env
    )
    assert (status, json.loads(output)) == (0, {"matched": 1})
    assert (await done("retry", "--failed", "--type", "873", "--since", "1h", env=env))[0] == 0
    put = await node.next_put()
    assert (await api.get(f"/tasks/{put.task_id}"))["retryOf"] == end["data"]["taskId"]
    await api.succeed(put, {"n": 1})
    status, output, _ = await done("watch", put.task_id, env=env)
    assert (status, json.loads(output)["n"]) == (0, 1)


async def test_an_operator_drains_a_node_and_looks(api, make_node, make_caller, env):
    await make_node("of_operator", [874])
    operator = {**env, "GPU_ORCHESTRATOR_KEY": (await make_caller("operator")).made.secret}
    assert (await done("drain", "of_operator", "--reason", "更换风扇", env=operator))[0] == 0
    status, output, _ = await done("nodes", env=operator)
    assert status == 0
    assert "0 left: 更换风扇" in output
    assert (await done("undrain", "of_operator", env=operator))[0] == 0
    nodes = json.loads((await done("nodes", "--json", env=operator))[1])
    assert [one["draining"] for one in nodes if one["gpuId"] == "of_operator"] == [False]
    async with terminal(*PROGRAM, "top", env=operator) as screen:
        await screen.until("of_operator")
        screen.type(CTRL_C)
        assert await screen.ended() == 0
    status, output, errors = await done("tasks", env={**env, "GPU_ORCHESTRATOR_KEY": "unknown"})
    assert (status, output) == (5, "")
    assert "(401)" in errors
