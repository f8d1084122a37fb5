"""Who may see and use the data directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from workers.stack.data_dir import LONGEST_SOCKET_FOLDER, DataDir
from workers.stack.errors import DataDirInUse, StackError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


def test_the_data_directory_is_closed_to_others(data_dir: DataDir) -> None:
    assert mode(data_dir.root) == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(data_dir.logs) == mode(data_dir.nodes) == 0o700


def test_an_existing_data_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    DataDir.create(tmp_path)
    assert mode(tmp_path) == 0o750


def test_sockets_of_a_long_data_directory_live_in_a_short_folder_of_our_own(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    sockets = DataDir.create(long).sockets
    assert len(str(sockets)) <= LONGEST_SOCKET_FOLDER
    assert sockets == DataDir.create(long).sockets != DataDir.create(tmp_path / ("y" * 100)).sockets
    for folder in (sockets, DataDir.create(tmp_path / ("y" * 100)).sockets):
        folder.rmdir()


def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    sockets = DataDir.create(long).sockets
    sockets.rmdir()
    sockets.symlink_to(tmp_path)
    with pytest.raises(StackError, match="somebody else's"):
        DataDir.create(long)
    sockets.unlink()


def test_the_lock_is_held_once_and_let_go(data_dir: DataDir) -> None:
    with data_dir.locked(), pytest.raises(DataDirInUse, match=f"process {os.getpid()}"), data_dir.locked():
        pass
    with data_dir.locked():
        pass
