"""The demo's refusals before it starts anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.data_dir import usable
from workers import cli


def test_a_folder_that_no_task_can_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a\udcff"
    assert cli.main(["demo", "--out", str(out)]) == 1
    assert "is not: choose another --out" in capsys.readouterr().out
    assert not out.exists()


def test_results_of_somebody_else_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "work"
    theirs.mkdir()
    uid = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    monkeypatch.setattr(usable, "_may_change", lambda path: path != theirs)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"failed: {theirs} belongs to ")
    assert theirs.exists()
