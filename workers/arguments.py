"""Types of options of the command line; argparse prints the ArgumentTypeError that they raise."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """`90s`, `30m`, `24h`, `30d`, `2w`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a duration like 24h or 30d")
    try:
        found = timedelta(**{UNITS[match[2]]: int(match[1])})
        _ = datetime.now(UTC) + found
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} is too long") from None
    return found


def expiry(text: str) -> datetime:
    """A duration from now, or a time (UTC if it has no zone). It is not checked here whether it is past."""
    if _is_duration(text):
        return datetime.now(UTC) + duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a duration like 30d nor an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ago(text: str) -> timedelta | datetime:
    """A duration into the past, or a time; one without a zone is UTC."""
    return duration(text) if _is_duration(text) else expiry(text)


def _is_duration(text: str) -> bool:
    return re.fullmatch(r"[0-9]+[a-z]", text) is not None


def int64(text: str) -> int:
    """A whole number of 64 bits."""
    if re.fullmatch(r"-?[0-9]{1,19}", text) is None or not -(2**63) <= int(text) < 2**63:
        raise ArgumentTypeError(f"{text!r} is not a 64-bit integer")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if (number := int64(text)) < 1:
        raise ArgumentTypeError("must be 1 or more")
    return number


def word(text: str) -> str:
    """A word of printable ASCII characters, as headers carry it."""
    if re.fullmatch(r"[!-~]{1,255}", text) is None:
        raise ArgumentTypeError("must be 1 to 255 printable ASCII characters without blanks")
    return text
