"""Supervision with stand-in programs: restarts, giving up, stopping."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from infra.data_dir.layout import DataDir
from tests.unit.stand_ins import SLEEP, exists, log_to, python
from workers.stack import part as part_module
from workers.stack.errors import PartFailed, StackError
from workers.stack.part import Part, PartSpec
from workers.waiting import until

DEADLINE = 10.0  # s


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module, "FIRST_DELAY", 0.01)


async def test_a_part_that_dies_is_started_again(data_dir: DataDir, lines: list[tuple[str, str]]) -> None:
    part = Part(PartSpec("sleeper", SLEEP), data_dir, log_to(lines))
    part.start()
    await part.until_ready(DEADLINE)
    first = part.pid

    part.kill(signal.SIGKILL)
    await part.until_ready(DEADLINE)

    assert part.pid not in (None, first)
    assert ("sleeper", "was ended by SIGKILL: starting it again in 0.01 s") in lines
    assert ("sleeper", "is back") in lines
    await part.stop()


async def test_the_delay_doubles(data_dir: DataDir, lines: list[tuple[str, str]]) -> None:
    part = Part(
        PartSpec("flaky", python("raise SystemExit(7)"), ready=exists(data_dir.root / "never")), data_dir, log_to(lines)
    )
    part.start()
    with pytest.raises(PartFailed):
        await part.until_ready(DEADLINE)
    assert [line for _, line in lines if "again" in line] == [
        f"ended with status 7: starting it again in {delay:g} s" for delay in (0.01, 0.02, 0.04)
    ]
    await part.stop()


async def test_a_part_that_fails_four_times_before_it_is_ready_is_given_up_with_its_last_lines(
    data_dir: DataDir, lines: list[tuple[str, str]]
) -> None:
    spec = PartSpec("broken", python("raise SystemExit('no such table')"), ready=exists(data_dir.root / "never"))
    part = Part(spec, data_dir, log_to(lines))
    part.start()
    with pytest.raises(PartFailed, match=r"broken failed 4 times \(ended with status 1\)(?s:.*)no such table"):
        await part.until_ready(DEADLINE)
    await part.stop()


async def test_a_part_that_is_never_ready_fails_after_the_time_given(data_dir: DataDir) -> None:
    part = Part(PartSpec("slow", SLEEP, ready=exists(data_dir.root / "never")), data_dir, lambda *_: None)
    part.start()
    with pytest.raises(PartFailed, match=r"slow is not ready after 0\.1 s"):
        await part.until_ready(0.1)
    await part.stop()


async def test_what_cannot_be_prepared_counts_as_a_failure(data_dir: DataDir) -> None:
    async def prepare() -> None:
        raise StackError("initdb failed")

    part = Part(PartSpec("unprepared", SLEEP, prepare=prepare), data_dir, lambda *_: None)
    part.start()
    with pytest.raises(PartFailed, match="initdb failed"):
        await part.until_ready(DEADLINE)
    await part.stop()


async def test_no_surprise_ends_the_supervision(data_dir: DataDir, lines: list[tuple[str, str]]) -> None:
    surprises = {"prepare": 2, "ready": 2}

    def surprise(where: str) -> None:
        if surprises[where]:
            surprises[where] -= 1
            raise RuntimeError(f"{where} is not what it was")

    async def prepare() -> None:
        surprise("prepare")

    async def ready() -> bool:
        surprise("ready")
        return True

    part = Part(PartSpec("surprised", SLEEP, prepare=prepare, ready=ready), data_dir, log_to(lines))
    part.start()
    await part.until_ready(DEADLINE)
    assert surprises == {"prepare": 0, "ready": 0}
    said = [line for _, line in lines]
    assert said.count("cannot be asked whether it is ready (ready is not what it was)") == 1
    assert "cannot be started (prepare is not what it was): starting it again in 0.02 s" in said
    await part.stop()


async def test_a_part_that_runs_once_is_ready_when_it_ended_well(data_dir: DataDir) -> None:
    done = data_dir.root / "done"
    spec = PartSpec("migrate", python(f"open({str(done)!r}, 'w')"), once=True)
    part = Part(spec, data_dir, lambda *_: None)
    part.start()
    await part.until_ready(DEADLINE)
    assert done.exists()
    assert part.pid is None
    await part.stop()


async def test_a_part_that_ignores_the_stop_signal_is_killed_after_its_grace(data_dir: DataDir) -> None:
    deaf = data_dir.root / "deaf"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(deaf)!r}, 'w'); time.sleep(60)"
    part = Part(PartSpec("deaf", python(code), ready=exists(deaf), grace=0.2), data_dir, lambda *_: None)
    part.start()
    await part.until_ready(DEADLINE)
    process = psutil.Process(part.pid)
    asked = time.monotonic()
    await part.stop()
    assert not process.is_running()
    assert 0.2 <= time.monotonic() - asked < 2


async def test_what_a_part_started_ends_with_it(data_dir: DataDir, lines: list[tuple[str, str]]) -> None:
    code = f"import subprocess; print('child', subprocess.Popen({SLEEP!r}).pid, flush=True)"
    part = Part(PartSpec("parent", python(code), once=True), data_dir, log_to(lines))
    part.start()
    await part.until_ready(DEADLINE)
    child = int(lines[0][1].split()[1])
    assert await until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", DEADLINE)
    await part.stop()


async def test_a_stopped_part_stays_down_until_it_is_started(data_dir: DataDir) -> None:
    part = Part(PartSpec("sleeper", SLEEP), data_dir, lambda *_: None)
    part.start()
    await part.until_ready(DEADLINE)
    await part.stop(signal.SIGKILL)
    assert part.pid is None
    with pytest.raises(PartFailed, match="is stopped"):
        await part.until_ready(0)
    part.start()
    await part.until_ready(DEADLINE)
    assert part.pid is not None
    await part.stop()


async def test_output_goes_to_the_file_whole_and_to_the_console_where_noteworthy(
    data_dir: DataDir, lines: list[tuple[str, str]]
) -> None:
    code = "print('LOG: hello'); print('ERROR: oh'); print('x' * 200_000)"
    spec = PartSpec("talker", python(code), once=True, noteworthy=re.compile("ERROR"))
    part = Part(spec, data_dir, log_to(lines))
    part.start()
    await part.until_ready(DEADLINE)
    await part.stop()
    assert lines == [("talker", "ERROR: oh")]
    written = (data_dir.logs / "talker.log").read_text()
    assert written.startswith("LOG: hello\nERROR: oh\nxxx")
    assert written.count("x") == 200_000
    assert (data_dir.logs / "talker.log").stat().st_mode & 0o777 == 0o600
