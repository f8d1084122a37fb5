"""Everything that the node agent raises on purpose."""

from __future__ import annotations


class NodeError(Exception):
    """The node cannot do this."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class BadOption(NodeError):
    """The command line is wrong."""


class BadAssignment(NodeError):
    """The work that was sent is malformed."""


class UnservedType(NodeError):
    """This node does not serve this task type."""


class NoFreeSlot(NodeError):
    """All slots are taken."""


class NotReady(NodeError):
    """The node does not take work now."""


class CannotStart(NodeError):
    """The process of a piece of work cannot be started."""


class SetupFailed(CannotStart):
    """A handler cannot be imported, or a command not found."""


class Stopped(NodeError):
    """The attempt was stopped before its work had ended."""


class BadOutput(NodeError):
    """The work's output cannot be a result."""


class StateDirTaken(NodeError):
    """The state directory is in use by another agent, or cannot be written."""


class Refused(NodeError):
    """The orchestrator refuses this node."""
