"""A node's place in the fleet: it registers, beats, and registers again when it is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
import trustme

from tests.e2e.fake_orchestrator import DEADLINE, KEY, FakeOrchestrator, fake_orchestrator
from tests.e2e.node.agent import (
    DOUBLE,
    FAILING,
    GATED,
    HERE,
    JOBS,
    PROGRAM,
    arguments,
    gate,
    running,
    spawn,
    until,
    until_exists,
    work,
)


async def test_registers_and_beats(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    extra = ["--priority", "VIP", "--slots", "3", "--hostname", "box", "--advertise-ip", "127.0.0.2"]
    env = {"VAST_CONTAINERLABEL": "C.42", "CUDA_VISIBLE_DEVICES": ""}
    options = arguments(orchestrator.url, "gpu_1", *extra, *work(PROGRAM, FAILING))
    async with running(orchestrator, tmp_path, options, env) as agent:
        body = orchestrator.of("register")[0].body
        port = body["port"]
        assert agent.ready == f"node ready: gpu_1 http://127.0.0.2:{port} types=[20,21] slots=3\n"
        cores = body["metadata"].pop("cores")
        assert cores >= 1
        assert len(body.pop("dispatchSecret")) >= 32
        assert body == {
            "gpuId": "gpu_1",
            "hostname": "box",
            "ip": "127.0.0.2",
            "port": port,
            "supportedTaskTypes": [20, 21],
            "supportedTaskPriority": "VIP",
            "version": body["version"],
            "maxConcurrentTasks": 3,
            "metadata": {"device": "cpu"},
            "vastInsId": "C.42",
        }
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat", "gpu_1")) >= 3)
        assert await agent.health() == "READY"
        agent.process.terminate()
        assert await agent.exit() == 0
    assert not orchestrator.of("deregister")
    assert KEY not in (tmp_path / "agent.log").read_text()


async def test_waits_for_the_orchestrator_and_registers_again_when_forgotten(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    orchestrator.script("register", 503, 500)
    options = arguments(orchestrator.url, "gpu_1", "--deregister-on-exit", *work(PROGRAM))
    async with running(orchestrator, tmp_path, options) as agent:
        assert len(orchestrator.of("register")) == 3
        orchestrator.script("heartbeat", 500, 404)
        await orchestrator.until(lambda: len(orchestrator.of("register")) == 4)
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) >= 4)
        first, again = orchestrator.of("register")[0], orchestrator.of("register")[-1]
        assert first.body == again.body
        agent.process.send_signal(signal.SIGINT)
        assert await agent.exit() == 0
    assert orchestrator.of("deregister", "gpu_1")


async def test_beats_name_their_registration(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    async with running(orchestrator, tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM))):
        orchestrator.script("heartbeat", 200, 404)
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) >= 4)
        shown = [call.headers["x-registration"] for call in orchestrator.of("heartbeat")]
        assert (shown[:2], shown[-1]) == (["registration-1"] * 2, "registration-2")


async def test_an_orchestrator_of_before_names_none(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    orchestrator.names_registrations = False
    async with running(orchestrator, tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM))):
        orchestrator.script("heartbeat", 400)  # without the header: nothing that an agent gives way to
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) >= 3)
        assert "x-registration" not in orchestrator.of("heartbeat")[-1].headers
        assert len(orchestrator.of("register")) == 1


async def test_a_displaced_agent_does_not_deregister_the_other(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--deregister-on-exit", *work(PROGRAM))
    async with running(orchestrator, tmp_path, options) as agent:
        orchestrator.script("heartbeat", 400, 400, headers={"X-Registration": "outdated"})
        await orchestrator.until(lambda: bool(orchestrator.of("gpu")))
        agent.process.terminate()
        assert await agent.exit() == 0
    assert not orchestrator.of("deregister")


@pytest.mark.parametrize(("registration", "deregisters"), [("outdated", 0), ("known", 1)])
async def test_an_agent_that_ends_before_its_next_beat_asks_whether_it_was_displaced(
    orchestrator: FakeOrchestrator, tmp_path: Path, registration: str, deregisters: int
) -> None:
    extra = ("--deregister-on-exit", "--heartbeat-interval", "600")
    options = [*arguments(orchestrator.url, "gpu_1", *work(PROGRAM)), *extra]
    async with running(orchestrator, tmp_path, options) as agent:
        if registration == "outdated":
            orchestrator.script("heartbeat", 400, headers={"X-Registration": "outdated"})
        agent.process.terminate()
        assert await agent.exit() == 0
    assert len(orchestrator.of("heartbeat")) == 1
    assert len(orchestrator.of("deregister")) == deregisters


@pytest.mark.parametrize("end", ["OFFLINE", "gone"])
async def test_a_displaced_agent_gives_way_and_ends_nothing(
    orchestrator: FakeOrchestrator, tmp_path: Path, end: str
) -> None:
    async with running(orchestrator, tmp_path, arguments(orchestrator.url, "gpu_1", *work(GATED))) as agent:
        input, here, go = gate(tmp_path, "on")
        await agent.put("on", GATED, input)
        await until_exists(here)
        orchestrator.script("heartbeat", 400, headers={"X-Registration": "outdated"})
        await orchestrator.until(lambda: bool(orchestrator.of("gpu")))
        beats = len(orchestrator.of("heartbeat"))
        orchestrator.script("gpu", 503, 429)
        go.touch()
        assert await agent.result("on") == {}
        assert orchestrator.of("result", "on")[0].headers["x-attempt-token"] == "token-of-on"
        asked = len(orchestrator.of("gpu"))
        await orchestrator.until(lambda: len(orchestrator.of("gpu")) >= asked + 4)
        assert (len(orchestrator.of("heartbeat")), len(orchestrator.of("register"))) == (beats, 1)
        if end == "gone":
            orchestrator.script("gpu", 404)
        else:
            orchestrator.gpu_status = "OFFLINE"
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) > beats)
        assert len(orchestrator.of("register")) == 2
        assert orchestrator.of("heartbeat")[-1].headers["x-registration"] == "registration-2"


async def test_it_waits_as_long_as_a_busy_orchestrator_asks_for(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    orchestrator.script("register", 429, headers={"Retry-After": "1"})
    async with running(orchestrator, tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM))):
        first, again = orchestrator.of("register")
        assert again.at - first.at > 1.3  # without being asked it waits 0.4 to 0.6 s


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_registration_is_fatal(orchestrator: FakeOrchestrator, tmp_path: Path, status: int) -> None:
    orchestrator.script("register", status)
    process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM)))
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (1, b"")
    assert f"scripted {status}" in (tmp_path / "agent.log").read_text()


async def test_setup_failure_is_shown_and_not_registered(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = arguments(orchestrator.url, "gpu_1", "--port", str(port), "--handler", f"2={JOBS}:missing")
    process = await spawn(tmp_path, options)

    async def failed() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.get(f"http://127.0.0.1:{port}/health-check")
                return bool(answer.json() == {"status": "SETUP_FAILED"})
        return False

    await until(failed, "SETUP_FAILED")
    process.terminate()
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (1, b"")
    error = f"AttributeError: module '{JOBS}' has no attribute 'missing'"
    assert error in (tmp_path / "agent.log").read_text()
    assert not orchestrator.of("register")


async def test_it_registers_as_soon_as_its_handler_can_be_imported(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--handler", "2=my_work:run")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE.parents[2])])}
    process = await spawn(tmp_path, options, env)
    try:
        await until(lambda: "setup failed" in (tmp_path / "agent.log").read_text(), "a failure")
        (tmp_path / "my_work.py").write_text("def run(input, report):\n    return {}\n")
        await orchestrator.until(lambda: bool(orchestrator.of("register")))
    finally:
        process.terminate()
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output.startswith(b"node ready")) == (0, True)
    assert (tmp_path / "agent.log").read_text().count("setup failed") == 1


async def test_a_node_that_waits_to_be_registered_can_be_stopped(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    orchestrator.script("register", *[503] * 100)
    process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(DOUBLE)))
    await orchestrator.until(lambda: bool(orchestrator.of("register")))
    process.terminate()
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (0, b"")


async def test_a_secret_of_before_the_restart_is_refused_as_not_ready_until_it_registers(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    orchestrator.script("register", *[503] * 100)
    process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(DOUBLE)))
    try:
        await orchestrator.until(lambda: bool(orchestrator.of("register")))
        body = orchestrator.of("register")[0].body
        known, before = ({"Authorization": f"Bearer {secret}"} for secret in (body["dispatchSecret"], "of-before"))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{body['port']}", trust_env=False) as http:
            for headers in (before, {}):
                put = await http.put("/predictions/t-1", json={}, headers=headers)
                assert (put.status_code, put.json()) == (503, {"detail": "the node is not registered yet"})
                assert (await http.get("/predictions/t-1", headers=headers)).status_code == 401
                assert (await http.post("/predictions/t-1/cancel", headers=headers)).status_code == 401
            assert (await http.get("/predictions/t-1", headers=known)).status_code == 404
            orchestrator.scripted.clear()
            assert process.stdout
            assert (await asyncio.wait_for(process.stdout.readline(), DEADLINE)).startswith(b"node ready")
            assert (await http.put("/predictions/t-1", json={}, headers=before)).status_code == 401
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), DEADLINE)


@pytest.mark.parametrize("variable", ["ORCHESTRATOR_NODE_CA_FILE", "SSL_CERT_FILE"])
async def test_it_trusts_a_private_authority_that_it_is_given(tmp_path: Path, variable: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    async with fake_orchestrator(tmp_path / "server.pem") as orchestrator:
        options = arguments(orchestrator.url, "gpu_1", *work(PROGRAM))
        async with running(orchestrator, tmp_path, options, {variable: str(tmp_path / "ca.pem")}):
            assert orchestrator.of("register")


async def test_it_trusts_no_other_authority(tmp_path: Path) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    async with fake_orchestrator(tmp_path / "server.pem") as orchestrator:
        process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM)))
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in (tmp_path / "agent.log").read_text(), "a refusal")
        process.terminate()
        await asyncio.wait_for(process.communicate(), DEADLINE)
        assert not orchestrator.calls
