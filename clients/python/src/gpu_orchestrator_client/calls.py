"""One call: when it is repeated, and what a refusal means. The command line imports it, and waits for no pydantic."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gpu_orchestrator_client.commands import Lost, Pause, Reply, Send, Steps
from gpu_orchestrator_client.errors import BY_CODE, OrchestratorError, ServerError, Unreachable

REPEAT_FOR_S = 60.0
"""Seconds for which a call is repeated, from its first failure."""
LEAST_TRIES = 3
"""Tries of a call that gets no answer, however long they take: the process may have been stopped in between."""
PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
REPEATED = frozenset({429, 502, 503, 504})


def call(send: Send, repeat_for_s: float = REPEAT_FOR_S, least_tries: int = LEAST_TRIES) -> Steps[Reply]:
    """Make a call, and repeat it while the API is away or busy. Raises ApiError, Unreachable."""
    failing = 0.0
    tries, pause = 0, PAUSE_S
    while True:
        heard = yield send
        assert heard is not None
        tries += 1
        if isinstance(heard, Reply) and heard.status == 200:
            return heard
        failing += heard.took_s if tries > 1 else 0
        next_pause = pause_after(heard, pause)
        is_early = isinstance(heard, Lost) and tries < least_tries
        if not may_repeat(send, heard) or (failing + next_pause > repeat_for_s and not is_early):
            raise error_of(heard)
        yield Pause(next_pause)
        failing += next_pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


def may_repeat(send: Send, heard: Reply | Lost) -> bool:
    """Whether a call that has failed may be made again."""
    return isinstance(heard, Lost) or heard.status in REPEATED - send.refusals


def pause_after(heard: Reply | Lost | None, pause_s: float) -> float:
    """Seconds until the next try: about `pause_s`, or more where the API asks for more."""
    asked = retry_after_s(heard) if isinstance(heard, Reply) else None
    jitter = random.uniform(0.5, 1.5)  # nosec B311
    return max(asked or 0.0, pause_s * jitter)


def retry_after_s(reply: Reply) -> float | None:
    """`Retry-After` in seconds, also where it is a date: then by the clock of the server that has dated the reply."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    if (until := _moment(value)) is None:
        return None
    now = _moment(reply.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _moment(date: str) -> datetime | None:
    """A date of a header; None for what is none, or is one without a time zone."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def is_last(entries: int, size: int, headers: Mapping[str, str]) -> bool:
    """Whether a page of a list is the last one that can be read: by its `Link`, or without that if it is not full."""
    link = headers.get("link")
    if not entries or link is None:
        return entries < size
    return 'rel="next"' not in link


def error_of(heard: Reply | Lost) -> OrchestratorError:
    """The error that an answer other than 200, or none, is raised as."""
    if isinstance(heard, Lost):
        return Unreachable(f"no answer: {str(heard.error) or repr(heard.error)}")
    try:
        message = str(json.loads(heard.body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = "no message"
    return BY_CODE.get(heard.status, ServerError)(heard.status, message, retry_after_s(heard))
