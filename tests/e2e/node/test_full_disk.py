"""An agent whose disk is full: it takes no more work and says why, and works again once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fake_orchestrator import FakeOrchestrator
from tests.e2e.node.agent import DOUBLE, GATED, PROGRAM, arguments, gate, running, until_exists, work


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder), capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(("umount", "--lazy", folder), check=True)


def fill(disk: Path) -> Path:
    """Leave no byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


async def test_a_full_disk_is_said_and_costs_no_task_a_retry(
    orchestrator: FakeOrchestrator, tmp_path: Path, disk: Path
) -> None:
    state = ["--state-dir", str(disk / "state"), "--slots", "2"]
    options = arguments(orchestrator.url, "gpu_1", *state, *work(DOUBLE, GATED))
    async with running(orchestrator, tmp_path, options) as agent:
        input, here, go = gate(tmp_path, "begun")
        await agent.put("begun", GATED, input)
        await until_exists(here)
        filler = fill(disk)
        answer = await agent.put("refused", DOUBLE, {})
        assert (answer.status_code, answer.json()["detail"]) == (503, f"the disk of {disk / 'state'} is full")
        assert await agent.health() == "DEFUNCT"
        go.touch()
        assert await agent.result("begun") == {}  # what has begun ends as ever
        filler.unlink()
        assert await agent.health() == "READY"
        assert (await agent.put("refused", DOUBLE, {"log": os.devnull, "x": 1})).status_code == 202
        assert await agent.result("refused") == {"x": 2}
    assert orchestrator.statuses("refused") in (["COMPLETED"], ["PROCESSING", "COMPLETED"])


async def test_it_starts_on_a_full_disk(orchestrator: FakeOrchestrator, tmp_path: Path, disk: Path) -> None:
    state = ["--state-dir", str(disk / "state"), "--slots", "1"]
    options = arguments(orchestrator.url, "gpu_1", *state, *work(GATED))
    async with running(orchestrator, tmp_path, options) as agent:
        input, here, _ = gate(tmp_path, "killed")
        await agent.put("killed", GATED, input)
        await until_exists(here)
        agent.process.kill()
        await agent.process.wait()
    fill(disk)
    async with running(orchestrator, tmp_path, options) as agent:
        await orchestrator.until(lambda: orchestrator.statuses("killed")[-1:] == ["QUEUED"], "the hand-back")
        assert (await agent.put("next", GATED, {})).status_code == 503


async def test_an_input_that_finds_no_room_is_handed_back(
    orchestrator: FakeOrchestrator, tmp_path: Path, disk: Path
) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", *work(PROGRAM))
    async with running(orchestrator, tmp_path, options, {"TMPDIR": str(disk)}) as agent:
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - 150 * 1024)  # not full, and less than the input needs
        large = {"x": "x" * 250_000}
        assert (await agent.put("large", PROGRAM, large)).status_code == 202
        await orchestrator.ended("large", "PROCESSING", "QUEUED")
        assert "No space left" in orchestrator.of("status", "large")[-1].body["message"]
        assert (await agent.put("small", PROGRAM, {})).status_code == 202
        await agent.result("small")
