"""A process of user work, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
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
    launcher = Launcher("test_node_child", os.environ)
    child = await launcher.launch(["sleep", "60"], Slot(0, ""), {}, Nobody(), subprocess.DEVNULL)
    assert await child.close() == -signal.SIGTERM
    assert caplog.records == []
