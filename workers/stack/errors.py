"""Errors of the embedded stack; the docstring of a class is its message."""

from __future__ import annotations

from collections.abc import Iterable

from infra.environment.bad_settings import CannotStart


class StackError(CannotStart):
    """The embedded stack cannot be started."""

    def __init__(self, text: str = "", **values: object) -> None:
        super().__init__(text or (self.__doc__ or "").format(**values))


class PortTaken(StackError):
    """port {port} on {host} is taken: set {setting} to a free one"""

    exit_status = 2


class CannotListen(StackError):
    """cannot listen on {host} port {port} ({reason}): change {setting}"""

    exit_status = 2


class NotInstalled(StackError):
    """{name} is not installed: install gpu-orchestrator[embedded], or set {setting}"""


class PartFailed(StackError):
    """{name} {reason}; the last lines of its log follow."""

    def __init__(self, name: str, reason: str, tail: Iterable[str]) -> None:
        lines = (f"{name} {reason}; the last lines of its log:", *("  " + line for line in tail))
        super().__init__("\n".join(lines))
