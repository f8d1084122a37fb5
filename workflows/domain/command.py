"""Commands that a person sends a node by signal, and how their input is read (docs/operations.md, "In the Web UI").

Whatever the input holds, reading it never fails: it is typed by hand.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from workflows.domain.limits import LAST_MS, MAX_REASON


class Command(StrEnum):
    """The signals that act on a node, each with the name of the REST call that does the same."""

    FAULT = "fault"
    RECOVER = "recover"
    DRAIN = "drain"
    UNDRAIN = "undrain"


def epoch_of(said: Any) -> int | None:
    """The registration that a notification is about, or None if the signal is a person's command."""
    epoch = said.get("epoch") if isinstance(said, dict) else None
    return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None


def reason_of(said: Any) -> str:
    """The reason given, of at most MAX_REASON characters: the field `reason`, or a bare string; otherwise empty."""
    reason = said.get("reason") if isinstance(said, dict) else said
    return reason.strip()[:MAX_REASON] if isinstance(reason, str) else ""


def deadline_of(said: Any) -> int | None:
    """The field `deadline`, in Unix milliseconds; None where it is missing, or can be no time."""
    deadline = said.get("deadline") if isinstance(said, dict) else None
    if not isinstance(deadline, int) or isinstance(deadline, bool):
        return None
    return deadline if 0 < deadline <= LAST_MS else None


def read(given: bytes) -> Any:
    """A signal's input as parsed JSON; None if there is none, or if it can't be read."""
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None
