"""Errors of the data directory; the docstring of a class is its message."""

from __future__ import annotations

from infra.environment.bad_settings import CannotStart


class DataDirError(CannotStart):
    """The data directory cannot be used."""


class FolderUnusable(DataDirError):
    """{folder} can't be used, and why, and what to do"""

    exit_status = 2


class DataDirInUse(DataDirError):
    """{data_dir} is in use by the stack of process {pid}"""

    exit_status = 2

    def __init__(self, data_dir: str, pid: str) -> None:
        advice = "stop it, or set ORCHESTRATOR_DATA_DIR to another folder"
        super().__init__(f"{data_dir} is in use by the stack of process {pid}: {advice}")
