"""Files that hold a secret: whole, ours alone, and without a draft."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from infra.db import locks
from infra.db.access import local_node_key
from infra.db.session import Database
from workers import secret_file
from workers.stack.node_key import ensure_node_key

WAYS = [secret_file.create, secret_file.replace]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be put in its place."""

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", fails)
    monkeypatch.setattr(os, "replace", fails)


@pytest.mark.parametrize("write", WAYS)
def test_it_is_ours_alone(file: Path, write: Callable[[Path, str], object]) -> None:
    previous = os.umask(0)
    try:
        write(file, "secret")
    finally:
        os.umask(previous)
    assert secret_file.read(file) == "secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_one_that_is_there_is_kept_or_replaced(file: Path) -> None:
    assert secret_file.create(file, "first")
    assert not secret_file.create(file, "second")
    assert secret_file.read(file) == "first"
    secret_file.replace(file, "third")
    assert secret_file.read(file) == "third"
    assert list(file.parent.iterdir()) == [file]


def test_there_may_be_none(file: Path) -> None:
    assert secret_file.read(file) == ""


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.usefixtures("full_disk")
def test_a_write_that_fails_leaves_no_draft(file: Path, write: Callable[[Path, str], object]) -> None:
    with pytest.raises(OSError, match="No space left"):
        write(file, "secret")
    assert list(file.parent.iterdir()) == []


@pytest.mark.usefixtures("full_disk")
async def test_the_nodes_key_leaves_no_draft(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: Database, work: Callable[[object], object]) -> object:
        return await work(None)  # type: ignore[misc]

    monkeypatch.setattr(Database, "run", run)
    monkeypatch.setattr(locks, "own_nodes", AsyncMock())
    monkeypatch.setattr(local_node_key, "ensure_key", AsyncMock(return_value="secret"))
    with pytest.raises(OSError, match="No space left"):
        await ensure_node_key("postgresql://127.0.0.1:1/none", file, [])
    assert list(file.parent.iterdir()) == []
