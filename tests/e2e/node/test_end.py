"""The end of an agent: drained, hurried, killed."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.fake_orchestrator import KEY, FakeOrchestrator
from tests.e2e.node.agent import (
    DOUBLE,
    FAMILY,
    GATED,
    PROGRAM,
    Agent,
    arguments,
    attempt_log,
    gate,
    lives,
    running,
    start_family,
    until,
    until_exists,
    work,
)


async def test_drain_lets_running_work_finish_and_hands_back_the_rest(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    options = arguments(orchestrator.url, "gpu_1", "--slots", "2", *work(GATED, PROGRAM))
    async with running(orchestrator, tmp_path, options, {"SLOW_IMPORT": str(slow)}) as agent:
        running_input, here, go = gate(tmp_path, "running")
        await agent.put("running", GATED, running_input)
        await until_exists(here)
        # The spare of the second slot is used up; the process after it hangs in its import, so this has not begun.
        first_input, first_here, first_go = gate(tmp_path, "first")
        await agent.put("first", GATED, first_input)
        await until_exists(first_here)
        slow.touch()
        first_go.touch()
        await agent.result("first")
        await agent.put("waiting", GATED, {})
        agent.process.terminate()
        await orchestrator.ended("waiting", "QUEUED")
        assert (await agent.put("late", PROGRAM, {})).status_code == 503
        assert (await agent.put("running", GATED, {})).status_code == 202
        beats = len(orchestrator.of("heartbeat"))
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) > beats)
        go.touch()
        assert await agent.exit() == 0
    assert orchestrator.statuses("running") == ["PROCESSING", "COMPLETED"]


async def test_drain_kills_and_hands_back_what_takes_too_long(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--drain-timeout", "0.2", *work(FAMILY))
    orchestrator.script("status", 200, *[503] * 100)  # the report is not heard: meanwhile an answer says the same
    async with running(orchestrator, tmp_path, options) as agent:
        pids = await start_family(agent, tmp_path, "long")
        agent.process.terminate()
        await orchestrator.ended("long", "PROCESSING", "QUEUED")
        assert not any(map(lives, pids))
        again = await agent.put("long", FAMILY, {"pids": "x"})
        assert (again.status_code, again.json()["status"]) == (200, "canceled")
        orchestrator.scripted.clear()
        assert await agent.exit() == 0
    assert orchestrator.of("status", "long")[-1].body["message"] == "handed back: the node was shut down"


async def test_a_second_signal_ends_it_at_once(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--drain-timeout", "600", *work(FAMILY))
    async with running(orchestrator, tmp_path, options) as agent:
        pids = await start_family(agent, tmp_path, "long")
        agent.process.terminate()
        await until(lambda: is_busy(agent), "the drain")
        agent.process.terminate()
        assert await agent.exit() == 1
        assert not any(map(lives, pids))


async def is_busy(agent: Agent) -> bool:
    return (await agent.put("probe", FAMILY, {})).status_code == 503


async def test_a_killed_agent_leaves_no_child_and_remembers(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    state = ["--state-dir", str(tmp_path / "state"), "--slots", "2"]
    options = arguments(orchestrator.url, "gpu_1", *state, *work(DOUBLE, FAMILY))
    async with running(orchestrator, tmp_path, options) as agent:
        await agent.put("done", DOUBLE, {"log": str(log), "x": 3})
        await agent.result("done")
        orchestrator.script("result", *[503] * 100)
        await agent.put("unheard", DOUBLE, {"log": str(log), "x": 5})
        await agent.result("unheard")
        pids = await start_family(agent, tmp_path, "running")
        agent.process.kill()
        await agent.exit()
        await until(
            lambda: not lives(pids[0]), "the death of the agent's child"
        )  # of its children only the next agent knows
    orchestrator.scripted.clear()
    unheard = len(orchestrator.of("result", "unheard"))
    async with running(orchestrator, tmp_path, options) as agent:
        assert not any(map(lives, pids))
        await orchestrator.ended("running", "PROCESSING", "QUEUED")
        await orchestrator.until(lambda: len(orchestrator.of("result", "unheard")) > unheard)
        assert orchestrator.of("result", "unheard")[-1].headers["x-attempt-token"] == "token-of-unheard"
        state_of = await agent.get("running")
        assert (state_of["status"], state_of["error"]) == ("canceled", "handed back: the node was restarted")
        assert (await agent.put("running", DOUBLE, {"log": str(log), "x": 1})).json()["status"] == "canceled"
        again = await agent.put("done", DOUBLE, {"log": str(log), "x": 3})
        assert (again.status_code, again.json()["output"]) == (200, {"x": 6})
        agent.process.terminate()
        assert await agent.exit() == 0
    assert log.read_text() == "run\nrun\n"
    assert [line["event"] for line in attempt_log(tmp_path) if line["taskId"] == "running"] == [
        "accepted",
        "started",
        "canceled",
    ]
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "state").iterdir())
