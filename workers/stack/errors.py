"""Errors of the embedded stack; the docstring of a class is its message."""

from __future__ import annotations

from collections.abc import Iterable


class StackError(Exception):
    """The embedded stack cannot be started."""

    exit_status = 1


class PortTaken(StackError):
    """port {port} is taken: set {setting} to a free one"""

    exit_status = 2

    def __init__(self, host: str, port: int, setting: str) -> None:
        super().__init__(f"port {port} on {host} is taken: set {setting} to a free one")


class FolderUnusable(StackError):
    """{folder} can't be used, and why, and what to do"""

    exit_status = 2


class CannotListen(StackError):
    """cannot listen on {host} port {port} ({reason}): change {setting}"""

    exit_status = 2

    def __init__(self, host: str, port: int, reason: str, setting: str) -> None:
        super().__init__(f"cannot listen on {host} port {port} ({reason}): change {setting}")


class DataDirInUse(StackError):
    """{data_dir} is in use by the stack of process {pid}"""

    exit_status = 2

    def __init__(self, data_dir: str, pid: str) -> None:
        advice = "stop it, or set ORCHESTRATOR_DATA_DIR to another folder"
        super().__init__(f"{data_dir} is in use by the stack of process {pid}: {advice}")


class NotInstalled(StackError):
    """{name} is not installed"""

    def __init__(self, name: str, setting: str) -> None:
        super().__init__(f"{name} is not installed: install gpu-orchestrator[embedded], or set {setting}")


class PartFailed(StackError):
    """{name} {reason}; the last lines of its log follow."""

    def __init__(self, name: str, reason: str, tail: Iterable[str]) -> None:
        lines = (f"{name} {reason}; the last lines of its log:", *("  " + line for line in tail))
        super().__init__("\n".join(lines))
