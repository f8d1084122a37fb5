"""The data directory: its permissions and its lock."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio.connection import parse_url
from sqlalchemy import make_url

from infra.data_dir import embedded, usable
from infra.data_dir.errors import DataDirError, DataDirInUse, FolderUnusable
from infra.data_dir.layout import HARMLESS, LONGEST_SOCKET_FOLDER, DataDir
from workers.stack import redis, temporal


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data_dir() -> Iterator[DataDir]:
    """A folder whose path is short enough for sockets, however the tests are run."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield DataDir.create(Path(folder) / "data")


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


@pytest.mark.parametrize(
    "name", ["c++", "a b", "50%", "a%25b", "a,b", "a#b?c&d=e;f", "a\nb", "a'b\"c", "中", "\udcff", "-x"]
)
def test_sockets_of_a_harmful_path_live_in_a_folder_of_plain_letters(tmp_path: Path, name: str) -> None:
    data_dir = DataDir.create(tmp_path / name)
    assert HARMLESS.fullmatch(str(data_dir.sockets))
    assert (data_dir.sockets == data_dir.run) is (name == "-x")
    url = make_url(embedded.postgres_url(data_dir))
    assert url.query["host"] == str(data_dir.sockets / "postgres")
    assert parse_url(redis.url(data_dir))["path"] == str(data_dir.sockets / "redis.sock")


def test_the_folder_of_sockets_is_the_same_in_every_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = DataDir.create(tmp_path / "a b").sockets
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert DataDir.create(tmp_path / "a b").sockets == first


def test_the_folder_of_sockets_comes_and_goes_with_the_lock(tmp_path: Path) -> None:
    data_dir = DataDir.create(tmp_path / "a b")
    for _ in range(2):
        assert not data_dir.sockets.exists()
        with data_dir.locked():
            (data_dir.sockets / "postgres").mkdir()
            assert mode(data_dir.sockets) == mode(data_dir.root)
            DataDir.create(data_dir.root)  # by a second process, which finds the lock taken
            with pytest.raises(DataDirInUse), data_dir.locked():
                pass
            assert (data_dir.sockets / "postgres").exists()
    assert not data_dir.sockets.exists()


def test_no_file_name_of_the_data_directory_is_part_of_an_argument_that_is_taken_for_a_url(tmp_path: Path) -> None:
    data_dir = DataDir.create(tmp_path / "a#b")
    part = temporal.part(data_dir, 1, 2, "default")
    assert part.cwd == data_dir.root
    assert not [word for word in part.argv[1:] if str(tmp_path) in word]


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match=r"the path of ORCHESTRATOR_DATA_DIR has \d+ bytes, at most 400 work"):
        DataDir.create(tmp_path / ("x" * 200) / ("y" * 200))
    with pytest.raises(DataDirError, match="File name too long"):
        DataDir.create(tmp_path / ("x" * 300))


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderUnusable, match=r"can't be used .*: set ORCHESTRATOR_DATA_DIR to another folder"):
            DataDir.create(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataDirError, match="can't be used"):
        DataDir.create(tmp_path / "loop")


@pytest.mark.parametrize("name", ["", "lock", "api_key", "logs/api.log", "run", "postgres", "nodes/gpu_001/x"])
def test_files_of_somebody_else_are_named_before_anything_is_done(
    data_dir: DataDir, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_dir.root / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.touch()
    before = sorted(data_dir.root.rglob("*"))
    uid = data_dir.root.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    monkeypatch.setattr(usable, "_may_change", lambda each: each != path or name == "postgres")
    with pytest.raises(DataDirError) as refused:
        DataDir.create(data_dir.root)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path} belongs to ")
    assert f" {data_dir.root}, or set ORCHESTRATOR_DATA_DIR to another folder" in line
    assert ": sudo chown -R " in line
    assert sorted(data_dir.root.rglob("*")) == before


def test_what_is_not_ours_in_the_first_place_is_left_alone(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    (data_dir.root / "lost+found").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(usable, "_may_change", lambda path: path.name != "lost+found")
    DataDir.create(data_dir.root)


def test_files_of_others_that_may_be_changed_are_fine(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = data_dir.root.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    monkeypatch.setattr(usable, "_may_change", lambda path: True)
    DataDir.create(data_dir.root)


@pytest.mark.parametrize(("free", "first", "later"), [(300, True, True), (100, False, True), (10, False, False)])
def test_a_start_needs_room(
    data_dir: DataDir, free: int, first: bool, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 2**20))
    for enough in (first, later):
        if enough:
            data_dir.require_space()
        else:
            with pytest.raises(DataDirError, match=f"has {free} MiB of free space"):
                data_dir.require_space()
        data_dir.postgres.mkdir(exist_ok=True)


def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    data_dir = DataDir.create(long)
    data_dir.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(DataDirError, match="belongs to another user"):
            DataDir.create(long)
        with pytest.raises(DataDirError, match="belongs to another user"), data_dir.locked():
            pass
    finally:
        data_dir.sockets.unlink(missing_ok=True)


def test_the_lock_is_held_once_and_let_go(data_dir: DataDir) -> None:
    with data_dir.locked(), pytest.raises(DataDirInUse, match=f"process {os.getpid()}"), data_dir.locked():
        pass
    with data_dir.locked():
        pass
