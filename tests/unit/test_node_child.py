"""A process of user work, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.node import supervise
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


async def test_a_supervisor_that_its_work_has_stopped_is_ended_all_the_same(tmp_path: Path) -> None:
    launcher, stopped = Launcher(os.environ), tmp_path / "stopped"
    script = f"sleep 0.2; kill -STOP $PPID; touch {stopped}; exec sleep 60"
    child = await launcher.launch(["sh", "-c", script], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
    while not stopped.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await child.close() == -signal.SIGTERM


async def test_a_supervisor_that_is_stopped_before_it_says_a_word_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    stopped = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); os.kill(os.getpid(), {int(signal.SIGSTOP)})"
    monkeypatch.setattr("workers.node.child._SUPERVISE", (sys.executable, "-c", stopped))
    launcher = Launcher(os.environ, start_timeout=2.0)
    with pytest.raises(OSError, match="did not answer"):
        await launcher.launch(["sleep", "60"], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_what_cannot_be_killed_is_waited_for_once_and_keeps_nothing_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that a driver holds, or another user's."""
    launcher = Launcher(os.environ, sweep_timeout=0.3)
    tries: list[tuple[object, ...]] = []

    def in_vain(*of: object) -> set[int]:
        tries.append(of)
        return {1}

    monkeypatch.setattr(launcher, "_adopts", True)
    monkeypatch.setattr("workers.node.child._children", lambda: {1})
    monkeypatch.setattr(supervise, "kill_all", in_vain)
    children = [await launcher.launch(["true"], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL) for _ in range(2)]
    closing = asyncio.create_task(launcher.close(children[0]))
    while not tries:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    children.append(await launcher.launch(["true"], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL))
    assert not closing.done()
    await closing
    before = len(tries)
    await launcher.close(children[1])
    assert before < 10
    assert len(tries) == before + 1
    await launcher.close(children[2])
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "cannot end the processes [1] of an attempt; the next end of one tries again"
    ]


PTRACE = """
import asyncio, ctypes, subprocess
from workers.node.child import Launcher
from workers.node.slots import Slot
libc = ctypes.CDLL(None)
version, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(version, words)
words[2] |= 1 << 19
assert libc.capset(version, words) == 0 and libc.prctl(47, 2, 19, 0, 0) == 0
class Printer:
    def stdout_line(self, line): print(line.decode())
    stderr_line = stdout_line
async def main():
    child = await Launcher({}).launch(["grep", "^Cap", "/proc/self/status"], Slot(0, ""), {}, Printer(), subprocess.DEVNULL)
    await child.exited
    await child.close()
asyncio.run(main())
"""  # noqa: E501


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="capabilities are Linux' and root's")
def test_roots_work_cannot_trace_whatever_the_agent_inherits() -> None:
    argv = [sys.executable, "-c", PTRACE]
    sets = subprocess.run(argv, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(Path.cwd())}).stdout
    found = {name: int(mask, 16) & 1 << 19 for name, mask in (line.split() for line in sets.splitlines())}
    assert found == dict.fromkeys(("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"), 0)


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
