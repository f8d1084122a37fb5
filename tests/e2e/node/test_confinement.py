"""Work cannot outlive its attempt, nor see the agent's key."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.fake_orchestrator import KEY, FakeOrchestrator
from tests.e2e.node.agent import HERE, SPY, STRAYS, Agent, arguments, running, until, until_exists, work

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the means are Linux'")


def alive(token: str) -> list[str]:
    """The processes with this among their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if token in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:80])
        except psutil.Error:
            continue
    return found


async def start_strays(agent: Agent, folder: Path, task: str, then: str) -> str:
    """Work with a crowd of processes that try to outlive it; the token that all of them show."""
    token, here = f"token-{task}-{os.getpid()}", folder / f"{task}.here"
    await agent.put(task, STRAYS, {"token": token, "here": str(here), "then": then})
    await until_exists(here)
    return token


async def is_ready(agent: Agent) -> bool:
    return await agent.health() == "READY"


@pytest.mark.parametrize("then", ["end", "ask the supervisor to end"])
async def test_nothing_survives_the_works_own_end(shared: Agent, tmp_path: Path, then: str) -> None:
    task = f"strays-{then.replace(' ', '-')}"
    token = await start_strays(shared, tmp_path, task, then)
    assert await shared.result(task) == {}
    assert alive(token) == []


async def test_nothing_survives_a_cancel(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", *work(STRAYS))
    async with running(orchestrator, tmp_path, options) as agent:
        token = await start_strays(agent, tmp_path, "canceled", "wait")
        await until(lambda: len(alive(token)) > 30, "a crowd")
        answer = (await agent.cancel("canceled")).json()
        assert alive(token) == []
        assert (answer["status"], answer["stopped"]) == ("canceled", True)
        assert await is_ready(agent)


async def test_nothing_survives_a_killed_supervisor(shared: Agent, tmp_path: Path) -> None:
    """Work of the same user can kill it; then the agent ends what is left."""
    token = await start_strays(shared, tmp_path, "orphaned", "kill the supervisor")
    assert await shared.failure("orphaned") == "killed by signal KILL"
    assert alive(token) == []


async def test_nothing_survives_a_supervisor_that_fails(shared: Agent, tmp_path: Path) -> None:
    """Work of the same user can have it end with any exit status."""
    token = await start_strays(shared, tmp_path, "left", "make the supervisor fail")
    assert "supervise.py" in await shared.failure("left")
    assert alive(token) == []


async def test_nothing_survives_a_killed_agent(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", *work(STRAYS))
    async with running(orchestrator, tmp_path, options) as agent:
        token = await start_strays(agent, tmp_path, "abandoned", "wait")
        agent.process.kill()
        await agent.exit()
        await until(lambda: not alive(token), "the end of all that the work has started")


def check_hidden(found: dict[str, Any]) -> None:
    """Nothing of the agent's shows the key, and its memory is closed."""
    assert found["own"] == []
    assert found["descriptors"] == []
    assert set(found["agent"].values()) <= {"nothing", "PermissionError"}
    assert found["agent"]["memory"] == found["agent"]["descriptors"] == "PermissionError"
    assert "the secret" not in found["supervisor"].values()


async def seen(agent: Agent) -> Any:
    await agent.put("spy", SPY, {"secret": KEY[::-1]})
    return await agent.result("spy")


async def test_work_does_not_see_the_agents_key(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    """The agent may get the key as a variable, as a variable of another name, or as an argument."""
    env = {"AUTHORIZATION": f"Bearer {KEY}"}
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", f"--api-key={KEY}", *work(SPY))
    async with running(orchestrator, tmp_path, options, env) as agent:
        found = await seen(agent)
    check_hidden(found)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, with the spy in it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy(HERE / "spy.py", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_work_runs_as_another_user(orchestrator: FakeOrchestrator, open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    program = f"{SPY}={shutil.which('python3', path='/usr/bin:/usr/local/bin')} spy.py"
    key_file = open_folder / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    extra = ("--run-as", "nobody", "--key-file", str(key_file), "--command", program)
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", *extra)
    async with running(orchestrator, open_folder, options, {"ORCHESTRATOR_NODE_KEY": ""}) as agent:
        found = await seen(agent)
    assert found["streams"] == [True, True, True]
    assert (found["uid"], found["groups"], found["home"]) == (nobody.pw_uid, [nobody.pw_gid], nobody.pw_dir)
    check_hidden(found)
