"""The free space on the disk that holds an instance's data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from workflows.domain.health import is_nearly_full


@dataclass(frozen=True)
class Disk:
    """The file system that a folder lies on; sizes in bytes."""

    folder: Path
    free: int
    total: int
    percent: float  # used, of what we may use

    @property
    def nearly_full(self) -> bool:
        """Whether the disk is nearly full, by the rule of `workflows.domain.health`."""
        return is_nearly_full(self.free, self.total)


def fullest(data_dir: Path) -> Disk:
    """The file system of the data or, where that is another one, of Postgres' part of it: the one with less left."""
    return min((_of(_existing(data_dir / part)) for part in ("", "postgres")), key=lambda disk: disk.free)


def _existing(folder: Path) -> Path:
    """The folder, or the first one above it that exists: a program by itself makes no data folder."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.exists(each))


def _of(folder: Path) -> Disk:
    usage = psutil.disk_usage(str(folder))
    return Disk(folder, usage.free, usage.total, usage.percent)
