"""The log files and the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.data_dir.layout import DataDir
from workers.stack.logs import PartLog, console


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


def test_a_log_file_is_turned_over(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.stack.logs.MAX_FILE_BYTES", 100)
    log = PartLog("api", data_dir.logs, lambda *_: None, None)
    for number in range(30):
        log.line(f"line {number:04}")
    log.close()
    assert sorted(path.name for path in data_dir.logs.iterdir()) == ["api.log", "api.log.1"]
    assert log.tail[-1] == "line 0029"


def test_the_console_names_the_part(capsys: pytest.CaptureFixture[str]) -> None:
    console()("api", "hello")
    assert capsys.readouterr().err == "api      | hello\n"
