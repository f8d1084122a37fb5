"""How an attempt ends."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

ERROR_LIMIT = 1000  # characters

Status = Literal["starting", "processing", "succeeded", "failed", "canceled"]


@dataclass(frozen=True)
class Outcome:
    """The end of an attempt; made by the functions below only."""

    status: Literal["succeeded", "failed", "canceled"]
    output: str | None = None  # JSON text
    error: str | None = None
    handed_back: bool = False
    overdue: bool = False


def succeeded(output: str) -> Outcome:
    """The work is done; `output` is its JSON text."""
    return Outcome("succeeded", output=output)


def failed(error: str) -> Outcome:
    """The work failed; the message is cut to what a report can carry."""
    printable = "".join(each if each.isprintable() or each == "\n" else " " for each in error)
    return Outcome("failed", error=printable.strip()[:ERROR_LIMIT] or "failed without a message")


def canceled() -> Outcome:
    """The orchestrator asked for it, and wants no report."""
    return Outcome("canceled", error="canceled")


def handed_back(reason: str) -> Outcome:
    """It ends for a reason that is the node's, not the work's: the orchestrator runs it again, using up no retry."""
    return Outcome("canceled", error=f"handed back: {reason}", handed_back=True)


def overdue(seconds: float) -> Outcome:
    """Its time was up. That is the orchestrator's to decide and it knows the deadline: it wants no report."""
    return Outcome("canceled", error=f"deadline of {round(seconds * 1000)} ms exceeded", overdue=True)


def failed_exit(status: int, last_words: str) -> Outcome:
    """A process ended with a status other than 0, or without a result; `last_words` are its last lines."""
    if status < 0:
        return failed(f"killed by signal {_signal_name(-status)}")
    return failed(last_words[-ERROR_LIMIT:] or f"exit status {status}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
