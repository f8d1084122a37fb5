"""The next message to a destination of NOTIFY, which has a place of its own in the event log (ADR 0047)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from infra.alert_messages.message import AlertChange
from infra.db import clock
from infra.db.connection import Connection
from infra.db.ops import event_log, monitor_reports
from infra.db.ops.event_log import Cursor, Event
from workflows.domain.alert import AlertLevel
from workflows.domain.event import EventType
from workflows.domain.retry import BACKOFF_CAP_S, backoff_s

TOGETHER_S = 5.0
"""Alerts within this time after the first one share a message."""
PAUSE_S = 10.0
"""Seconds between two messages to one destination, at least."""
SENDING_S = 60.0
"""Seconds without word from its sender after which a message counts as not sent."""
TRIES = 12
"""Tries of a message, which take about an hour. If one of a URL's several targets refuses, the others get the message
again with each try."""
LONGEST_PAUSE_S = 10 * BACKOFF_CAP_S
"""The pauses after failures grow to this."""
MOVES = timedelta(hours=6)
"""How long a place may lag while nothing happens, so that it is never cut off from the log."""
MOST = 500
"""Events of one message."""

_TYPES = [EventType.ALERT_RAISED, EventType.ALERT_RESOLVED]
_TEXTS = "SELECT seq, message FROM alerts WHERE seq = ANY (%(seqs)s)"


@dataclass(frozen=True)
class DestinationPlace:
    """How far a destination knows the log, and when it may get the next message.

    After failures, `first` is the end of the first message that the destination has not accepted.
    """

    cursor: str
    not_before: str | None = None
    failures: int = 0
    first: str | None = None


@dataclass(frozen=True)
class DueMessage:
    """The alerts to send now. `place` is where the destination is afterwards."""

    alerts: list[AlertChange]
    place: DestinationPlace


class _Text(NamedTuple):
    seq: int
    message: str


async def take(connection: Connection, digest: str, level: AlertLevel) -> DueMessage | None:
    """The alerts that are due for a destination, or None. No other turn gets it for `SENDING_S`.

    A destination that is new, or whose place is lost, gets what happens from now on.
    """
    kept = await monitor_reports.hold(connection, _name(digest))
    now = await clock.now(connection)
    end = await event_log.now(connection)  # before the page: what comes in between is after it
    if kept is None:
        await _write(connection, digest, DestinationPlace(str(end)))
        return None
    place = DestinationPlace(**kept.body)
    if place.not_before is not None and now < datetime.fromisoformat(place.not_before) <= now + _longest():
        return None
    page = await event_log.read(connection, Cursor.of(place.cursor), limit=MOST, types=_TYPES)
    if page.is_reset:
        await _write(connection, digest, DestinationPlace(str(end)))
        return None
    wanted = [one for one in page.events if AlertLevel(one.data["level"]).rank <= level.rank]
    if not wanted:
        if page.events or now - kept.at > MOVES:
            await _write(connection, digest, DestinationPlace(str(page.until)))
        return None
    if now < wanted[0].at + timedelta(seconds=TOGETHER_S) and wanted[0].at <= now:
        return None
    await _write(connection, digest, replace(place, not_before=_after(now, SENDING_S)))
    after = str(page.until)
    return DueMessage(
        await _alerts(connection, wanted), DestinationPlace(after, None, place.failures, place.first or after)
    )


async def sent(connection: Connection, digest: str, due: DueMessage) -> None:
    """Note that the destination has it."""
    now = await clock.now(connection)
    await _write(connection, digest, DestinationPlace(due.place.cursor, _after(now, PAUSE_S)))


async def failed(connection: Connection, digest: str, due: DueMessage) -> bool:
    """Note that it could not be sent: that is tried later, with what has happened by then.

    Returns whether it is given up: the destination goes on after the first of these messages.
    """
    now, failures = await clock.now(connection), due.place.failures + 1
    if failures >= TRIES:
        await _write(connection, digest, DestinationPlace(due.place.first or due.place.cursor, _after(now, PAUSE_S)))
        return True
    kept = await monitor_reports.hold(connection, _name(digest))
    if kept is not None:
        not_before = _after(now, PAUSE_S + 10 * backoff_s(failures))
        await _write(
            connection,
            digest,
            replace(DestinationPlace(**kept.body), not_before=not_before, failures=failures, first=due.place.first),
        )
    return False


async def _alerts(connection: Connection, events: Sequence[Event]) -> list[AlertChange]:
    """The last event of each alert, with its text where that is kept."""
    last = {one.alert_id: one for one in events if one.alert_id is not None}
    seqs = {alert_id: int(alert_id.removeprefix("alert_")) for alert_id in last}
    rows = await connection.all(_Text, _TEXTS, {"seqs": list(seqs.values())})
    texts = {row.seq: row.message for row in rows}
    return [
        AlertChange(
            alert_id,
            AlertLevel(one.data["level"]),
            one.data["title"],
            texts.get(seqs[alert_id], ""),
            one.type == EventType.ALERT_RESOLVED,
        )
        for alert_id, one in last.items()
    ]


async def _write(connection: Connection, digest: str, place: DestinationPlace) -> None:
    await monitor_reports.keep(connection, _name(digest), asdict(place))


def _name(digest: str) -> str:
    return f"notify:{digest}"


def _after(now: datetime, seconds: float) -> str:
    return (now + timedelta(seconds=seconds)).isoformat()


def _longest() -> timedelta:
    """The longest pause. A `not_before` further ahead was written before the clock was set back, and is ignored."""
    return timedelta(seconds=PAUSE_S + SENDING_S + LONGEST_PAUSE_S)
