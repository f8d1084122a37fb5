"""The order of start and stop, with stand-in programs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.data_dir.layout import DataDir
from tests.unit.stand_ins import SLEEP, exists, python
from workers.stack import part as part_module
from workers.stack.errors import PartFailed
from workers.stack.part import PartSpec
from workers.stack.supervisor import Supervisor

DEADLINE = 10.0  # s


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module, "FIRST_DELAY", 0.01)


async def test_waves_start_in_order_and_stop_in_reverse(data_dir: DataDir) -> None:
    events: list[str] = []

    def spec(name: str) -> PartSpec:
        code = """import os, signal, time
signal.signal(15, lambda *_: (os.write(1, b'stopped\\n'), os._exit(0)))
print('started', flush=True)
time.sleep(60)"""
        return PartSpec(name, python(code), ready=said(name, "started"))

    def said(name: str, word: str) -> Callable[[], Awaitable[bool]]:
        async def ready() -> bool:
            return f"{name} {word}" in events

        return ready

    waves = [[spec("database")], [spec("worker")], [spec("node")]]
    async with Supervisor(data_dir, waves, log=lambda name, line: events.append(f"{name} {line}")):
        assert events == ["database started", "worker started", "node started"]
    assert events[3:] == ["node stopped", "worker stopped", "database stopped"]


async def test_when_a_part_does_not_come_up_the_others_are_stopped(data_dir: DataDir) -> None:
    waves = [[PartSpec("good", SLEEP)], [PartSpec("bad", python("1/0"), ready=exists(data_dir.root / "never"))]]
    supervisor = Supervisor(data_dir, waves, log=lambda *_: None)
    with pytest.raises(PartFailed, match="ZeroDivisionError"):
        async with supervisor:
            pytest.fail("it came up")
    assert supervisor.parts["good"].pid is None


async def test_kill_ends_a_stop_that_takes_too_long(data_dir: DataDir) -> None:
    deaf = data_dir.root / "deaf"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(deaf)!r}, 'w'); time.sleep(60)"
    supervisor = Supervisor(
        data_dir, [[PartSpec("deaf", python(code), ready=exists(deaf), grace=30)]], log=lambda *_: None
    )
    await supervisor.start()
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    supervisor.kill()
    async with asyncio.timeout(DEADLINE):
        await stopping
