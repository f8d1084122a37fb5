"""The room that is left on the disks that a node writes to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

LEAST_SHARE, LEAST_BYTES = 0.05, 16 * 2**20
"""A disk with less than both left is full: an input, a result or a report might not be written any more."""


class Room:
    """The room on the disks of the state directory, if there is one, and of the folder for temporary files."""

    def __init__(self, state_dir: Path | None) -> None:
        self._folders = [Path(tempfile.gettempdir()), *([state_dir] if state_dir else [])]

    @property
    def full(self) -> Path | None:
        """A folder whose disk is full, or None."""
        return next((folder for folder in self._folders if _is_full(folder)), None)


def _is_full(folder: Path) -> bool:
    """False if the disk does not report it."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_blocks > 0 and disk.f_bavail < min(LEAST_SHARE * disk.f_blocks, LEAST_BYTES / disk.f_frsize)
