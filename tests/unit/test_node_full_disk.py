"""The agent's files after a full disk, and when the agent reports one."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.test_node_records import record
from workers.node.attempt_log import AttemptLog
from workers.node.journal import Journal
from workers.node.outcome import succeeded
from workers.node.records import Records
from workers.node.room import Room
from workers.node.state_dir import StateDir

MIB = 2**20


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system writes up to that size, then refuses: as on a full disk, a line may be written in part."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_nothing_stays_of_a_line_that_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append("first")
    for _ in range(3):
        with no_file_beyond(journal.size + 4), pytest.raises(OSError, match="too large"):
            journal.append("second, too long")
    journal.append("third")
    journal.close()
    assert path.read_text() == "first\nthird\n"


def test_the_line_after_a_torn_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("torn")
    journal = Journal(path)
    with no_file_beyond(7), pytest.raises(OSError, match="too large"):
        journal.append("longer than there is room for")
    journal.append("first")
    journal.append("second")
    journal.close()
    assert path.read_text() == "torn\nfirst\nsecond\n"


def test_an_attempt_that_could_not_be_noted_is_forgotten_for_good(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    records = Records(storage=state)
    records.add(record("first-1"))
    with no_file_beyond(300), pytest.raises(OSError, match="too large"):
        records.add(record("refused-1"))
    records.add(record("second-1"))
    state.close()
    again = StateDir(tmp_path)
    assert [one.id for one in again.load()] == ["first-1", "second-1"]
    again.close()


def test_the_old_records_stay_where_there_is_no_room_for_new_ones(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    records = Records(storage=state)
    for number in range(20):
        records.add(record(f"task-{number}"))
    state.close()
    again = StateDir(tmp_path)
    with no_file_beyond(500):
        assert len(again.load()) == 20
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "records.jsonl"]
    again.append(record("after-1"))
    assert len(again.load()) == 21
    again.close()


def test_the_attempt_log_stays_whole(tmp_path: Path) -> None:
    attempt_log = AttemptLog(tmp_path, "gpu_1")
    attempt_log.write("accepted", record())
    with no_file_beyond(200):
        attempt_log.write("started", record())
    attempt_log.write("succeeded", record().ended(succeeded("{}")))
    attempt_log.close()
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["accepted", "succeeded"]


@pytest.mark.parametrize(
    ("free", "total", "is_full"),
    [
        (100 * MIB, 100_000 * MIB, False),
        (15 * MIB, 100_000 * MIB, True),
        (1 * MIB, 10 * MIB, False),
        (MIB // 4, 10 * MIB, True),
        (0, 0, False),  # some file systems report nothing
    ],
)
def test_a_disk_is_full_by_share_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, total: int, *, is_full: bool
) -> None:
    disk = SimpleNamespace(f_bavail=free / 4096, f_blocks=total / 4096, f_frsize=4096)
    plenty = SimpleNamespace(f_bavail=10**9, f_blocks=10**9, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda folder: disk if folder == tmp_path else plenty)
    assert Room(tmp_path).full == (tmp_path if is_full else None)
    assert Room(None).full is None
