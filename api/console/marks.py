"""Status as colour, shape and word together: the same on every page (docs/console.md)."""

from __future__ import annotations

from typing import NamedTuple

from api.console.texts import N_
from workflows.domain.task import FROM_OUTSIDE


class Mark(NamedTuple):
    """A symbol of `symbols.html`, a colour of the stylesheet, and a word."""

    symbol: str
    colour: str
    word: str


MARKS: dict[str, Mark] = {
    "QUEUED": Mark("ring", "grey", N_("Queued")),
    "PROCESSING": Mark("half", "blue", N_("Running")),
    "COMPLETED": Mark("tick", "green", N_("Completed")),
    "FAILED": Mark("cross", "red", N_("Failed")),
    "CANCELLED": Mark("slashed", "grey", N_("Cancelled")),
    "TIMEOUT": Mark("clock", "orange", N_("Timed out")),
    "ACTIVE": Mark("dot", "green", N_("Active")),
    "DRAINING": Mark("down", "violet", N_("Draining")),
    "OFFLINE": Mark("hollow", "grey", N_("Offline")),
    "FAULTY": Mark("triangle", "red", N_("Faulty")),
    "CRITICAL": Mark("triangle", "red", N_("Critical")),
    "WARNING": Mark("bang", "amber", N_("Warning")),
    "INFO": Mark("info", "blue", N_("Info")),
    "ACKNOWLEDGED": Mark("tick", "grey", N_("Acknowledged")),
    "OVER": Mark("tick", "green", N_("Over")),
    "OPEN": Mark("dot", "amber", N_("Open")),
    # how an attempt ended
    "RUNNING": Mark("half", "blue", N_("Running")),
    "SUCCEEDED": Mark("tick", "green", N_("Succeeded")),
    "TIMED_OUT": Mark("clock", "orange", N_("Timed out")),
    "REJECTED": Mark("cross", "red", N_("Rejected")),
    "PROTOCOL_ERROR": Mark("bang", "red", N_("Protocol error")),
    "HANDED_BACK": Mark("back", "grey", N_("Handed back")),
    "REFUSED": Mark("slashed", "grey", N_("Refused")),
    "UNREACHABLE": Mark("hollow", "amber", N_("Unreachable")),
    "LOST": Mark("hollow", "amber", N_("Lost")),
    "DEREGISTERED": Mark("hollow", "grey", N_("Node gone")),
    "DRAINED": Mark("down", "violet", N_("Drained")),
    "TASK_ENDED": Mark("slashed", "grey", N_("Task ended")),
    # how a task ended, where its status says too little
    "POISON": Mark("cross", "red", N_("Poison")),
    "EXPIRED": Mark("clock", "orange", N_("Expired")),
    "DEADLINE": Mark("clock", "orange", N_("Past its deadline")),
    # a delivery
    "PENDING": Mark("ring", "grey", N_("Pending")),
    "DELIVERED": Mark("tick", "green", N_("Delivered")),
    "DEAD": Mark("cross", "red", N_("Given up")),
    # keys, webhooks
    "LIVE": Mark("dot", "green", N_("Live")),
    "REVOKED": Mark("slashed", "grey", N_("Revoked")),
    "DISABLED": Mark("slashed", "amber", N_("Disabled")),
    # health, instances
    "HEALTHY": Mark("tick", "green", N_("Healthy")),
    "DEGRADED": Mark("bang", "amber", N_("Degraded")),
    "UNHEALTHY": Mark("triangle", "red", N_("Unhealthy")),
    "ALIVE": Mark("dot", "green", N_("Alive")),
    "GONE": Mark("hollow", "grey", N_("Gone")),
}


def mark_of(status: str) -> Mark:
    """The mark of a status; of one that is unknown here its own word."""
    return MARKS.get(status, Mark("ring", "grey", status))


def of_task(status: str, end_reason: str | None) -> str:
    """The name of a task's mark: a task ended from outside says so."""
    return end_reason if end_reason in FROM_OUTSIDE else status


def of_node(status: str, *, draining: bool) -> str:
    """The name of a node's mark: one that drains and is otherwise well says so."""
    return "DRAINING" if draining and status == "ACTIVE" else status
