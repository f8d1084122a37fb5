"""How an attempt ends."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Literal

ERROR_LIMIT = 1000  # characters
EX_DATAERR = 65
"""The exit status of sysexits.h for an input that is wrong."""

Status = Literal["starting", "processing", "succeeded", "failed", "canceled"]


@dataclass(frozen=True)
class Outcome:
    """The end of an attempt; made by the functions below only."""

    status: Literal["succeeded", "failed", "canceled"]
    output: str | None = None  # JSON text
    error: str | None = None
    rejected: bool = False
    handed_back: bool = False
    overdue: bool = False


def succeeded(output: str) -> Outcome:
    """The work is done; `output` is its JSON text."""
    return Outcome("succeeded", output=output)


def failed(error: str) -> Outcome:
    """The work failed; the message is cut to what a report can carry."""
    return Outcome("failed", error=_printable(error) or "failed without a message")


def rejected(reason: str) -> Outcome:
    """The work found that its input can never work: nobody's failure."""
    return replace(failed(reason), rejected=True)


def canceled() -> Outcome:
    """The orchestrator cancelled it, and expects no report."""
    return Outcome("canceled", error="canceled")


def handed_back(reason: str) -> Outcome:
    """It ends for a reason that is the node's, not the work's: the orchestrator runs it again, using up no retry."""
    return Outcome("canceled", error=_printable(f"handed back: {reason}"), handed_back=True)


def overdue(seconds: float) -> Outcome:
    """It ran past its deadline. The orchestrator decides this itself, so nothing is reported."""
    return Outcome("canceled", error=f"deadline of {round(seconds * 1000)} ms exceeded", overdue=True)


def ended(status: int, last_words: str) -> Outcome:
    """A program ended with a status other than 0; `last_words` are its last lines."""
    if status == EX_DATAERR:
        return rejected(last_words[-ERROR_LIMIT:] or f"exit status {EX_DATAERR}: the input cannot be used")
    return failed_exit(status, last_words)


def failed_exit(status: int, last_words: str) -> Outcome:
    """A process ended with a status other than 0, or without a result; `last_words` are its last lines."""
    if status < 0:
        return failed(f"killed by signal {_signal_name(-status)}")
    return failed(last_words[-ERROR_LIMIT:] or f"exit status {status}")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text).strip()[:ERROR_LIMIT]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
