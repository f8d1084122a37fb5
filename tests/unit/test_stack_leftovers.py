"""Parts that outlived their supervisor, and processes that only look like them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from workers.stack import leftovers


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as process:
        yield process
        process.kill()


async def test_a_noted_process_is_stopped(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    leftovers.record(tmp_path, "worker", sleeper.pid, signal.SIGTERM)
    assert await leftovers.stop_leftovers(tmp_path) == ["worker"]
    assert sleeper.wait() == -signal.SIGTERM
    assert os.listdir(tmp_path) == []


async def test_a_process_with_the_same_pid_but_another_start_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    leftovers.record(tmp_path, "worker", sleeper.pid, signal.SIGTERM)
    note = json.loads((tmp_path / "worker.pid").read_text())
    (tmp_path / "worker.pid").write_text(json.dumps({**note, "started": note["started"] - 60}))
    assert await leftovers.stop_leftovers(tmp_path) == []
    assert psutil.Process(sleeper.pid).is_running()
    assert sleeper.poll() is None


async def test_a_broken_note_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "worker.pid").write_text('{"pid": 1')
    assert await leftovers.stop_leftovers(tmp_path) == []
    assert os.listdir(tmp_path) == []
