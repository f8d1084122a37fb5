"""Whether a folder and its contents are ours to use: checked before anything is started, reported in one line.

A start by root leaves files that nobody else may change; so does a copy of another user's folder.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.data_dir.errors import FolderUnusable

LONGEST_PATH = 400
"""Bytes. SQLite opens no file whose path has more than 512, and Postgres none with more than 1024."""
FIRST_START_BYTES, LATER_START_BYTES = 200 * 2**20, 32 * 2**20
"""Free space that a start needs: the first one makes Postgres' files, later ones preallocate its log."""


def shown(path: Path) -> str:
    """A path as it can be printed and pasted into a shell; it may have any bytes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]


@contextmanager
def explained(path: Path, setting: str) -> Iterator[None]:
    """Turn an OSError inside into a FolderUnusable that names the path and the setting that chose it."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        named = getattr(error, "filename", None)
        where = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else path
        reason = f"{shown(where)} can't be used ({getattr(error, 'strerror', None) or error})"
        raise FolderUnusable(f"{reason}: {_advice(path, setting)}") from error


def require_ours(folder: Path, setting: str, names: Collection[str], *, owned: str | None = None) -> None:
    """Check a folder and its entries of these names, whole trees, except `owned`, which must itself belong to us.

    Raises FolderUnusable for the first file that we may not change.
    """
    if os.geteuid() == 0 or not folder.exists():
        return
    for path in _trees(folder, names, owned):
        entry = path.lstat()
        theirs = entry.st_uid != os.geteuid()
        if (path.name == owned and theirs) or not (path.is_symlink() or _may_change(path)):
            raise FolderUnusable(f"{shown(path)} {_whose(entry.st_uid)}: {_advice(folder, setting, chown=theirs)}")


def require_short(folder: Path, setting: str) -> None:
    """Raise FolderUnusable if some part could not open files in the folder."""
    if (length := len(os.fsencode(folder))) > LONGEST_PATH:
        raise FolderUnusable(
            f"the path of {setting} has {length} bytes, at most {LONGEST_PATH} work: choose a shorter one"
        )


def require_space(folder: Path, setting: str, *, first: bool) -> None:
    """Raise FolderUnusable if a start would fill the disk."""
    needed = FIRST_START_BYTES if first else LATER_START_BYTES
    if (free := shutil.disk_usage(folder).free) < needed:
        free_text = f"{shown(folder)} has {free >> 20} MiB of free space, a start needs {needed >> 20} MiB"
        raise FolderUnusable(f"{free_text}: make room, or set {setting} to another folder")


def _trees(folder: Path, names: Collection[str], owned: str | None) -> Iterator[Path]:
    yield folder
    for name in names:
        if os.path.lexists(top := folder / name):
            yield top
        for inner, folders, files in os.walk(top) if name != owned else ():
            yield from (Path(inner, each) for each in (*folders, *files))


def _may_change(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def _whose(uid: int) -> str:
    return "is not writable" if uid == os.geteuid() else f"belongs to {_name(uid)}"


def _advice(folder: Path, setting: str, *, chown: bool = False) -> str:
    other = f"set {setting} to another folder"
    return f"sudo chown -R {_name(os.geteuid())} {shlex.quote(shown(folder))}, or {other}" if chown else other


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
