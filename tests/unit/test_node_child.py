"""A process of user work, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from workers.node.child import Launcher
from workers.node.slots import Slot


class Nobody:
    """Hears nothing."""

    def stdout_line(self, line: bytes) -> None:
        raise AssertionError(line)

    def stderr_line(self, line: bytes) -> None:
        raise AssertionError(line)


async def test_its_exit_status_is_left_to_asyncio(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waitpid = os.waitpid

    def late(*arguments: Any) -> Any:
        """asyncio's watcher is a thread, or a callback: on a busy machine it comes late."""
        os.waitid(os.P_PID, arguments[0], os.WEXITED | os.WNOWAIT)
        time.sleep(0.1)
        return waitpid(*arguments)

    monkeypatch.setattr(os, "waitpid", late)
    launcher = Launcher(os.environ)
    child = await launcher.launch(["sleep", "60"], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
    assert await child.close() == -signal.SIGTERM
    assert caplog.records == []


@pytest.mark.parametrize("pause", [0.0, 0.5])
async def test_a_supervisor_that_its_work_has_stopped_is_ended_all_the_same(pause: float, tmp_path: Path) -> None:
    """Before it could tell that the work runs, or after that."""
    launcher, stopped = Launcher(os.environ, start_timeout=3.0), tmp_path / "stopped"
    script = f"sleep {pause}; kill -STOP $PPID; touch {stopped}; exec sleep 60"
    with suppress(OSError):  # no word of it
        child = await launcher.launch(["sh", "-c", script], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
        while not stopped.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await child.close() == -signal.SIGTERM


async def test_a_program_that_cannot_be_run_is_the_kernels_error(tmp_path: Path) -> None:
    launcher = Launcher(os.environ)
    (tmp_path / "no-interpreter").write_text("echo")
    (tmp_path / "no-interpreter").chmod(0o755)
    for program, kind in (
        ("no-such-program", FileNotFoundError),
        (str(tmp_path / "missing"), FileNotFoundError),
        (str(tmp_path), PermissionError),
        (str(tmp_path / "no-interpreter"), OSError),
    ):
        with pytest.raises(kind):
            await launcher.launch([program], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -SEGV $$", -signal.SIGSEGV), ("kill -9 $$", -9)])
async def test_it_ends_as_the_work_did(script: str, status: int) -> None:
    child = await Launcher(os.environ).launch(["sh", "-c", script], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
    await asyncio.wait([child.exited])
    assert await child.close() == status
