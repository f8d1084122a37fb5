"""What is to be sent next to a destination of NOTIFY: it has a place of its own in the event log (ADR 0047)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from infra.db.connection import Connection
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Event
from infra.notify.message import Notice
from workflows.domain.alert import AlertLevel
from workflows.domain.event import EventType
from workflows.domain.retry import backoff_s

TOGETHER_S = 5.0
"""What happens within this time after the first makes one message."""
PAUSE_S = 10.0
"""Seconds between two messages to one destination, at least."""
SENDING_S = 60.0
"""Seconds after which a message counts as not sent whose sender has said nothing."""
MOST = 500
"""Events of one message."""

_TYPES = [EventType.ALERT_RAISED, EventType.ALERT_RESOLVED]
_LEVELS = (AlertLevel.CRITICAL, AlertLevel.WARNING, AlertLevel.INFO)
_NOW = "SELECT clock_timestamp()"
_KEPT = "SELECT body FROM monitor_reports WHERE name = %(name)s FOR UPDATE"
_KEEP = """
    INSERT INTO monitor_reports AS m (name, body) VALUES (%(name)s, %(body)s)
        ON CONFLICT (name) DO UPDATE SET body = excluded.body, at = clock_timestamp()
    """
_TEXTS = "SELECT seq, message FROM alerts WHERE seq = ANY (%(seqs)s)"


@dataclass(frozen=True)
class Place:
    """How far a destination knows the log, and when it may get the next message."""

    cursor: str
    not_before: str | None = None
    failures: int = 0


@dataclass(frozen=True)
class Due:
    """What to send now. `place` is where the destination is after that."""

    notices: list[Notice]
    place: Place


class _Text(NamedTuple):
    seq: int
    message: str


async def take(connection: Connection, digest: str, level: AlertLevel) -> Due | None:
    """What is due for a destination, or None. It is nobody else's for `SENDING_S`.

    A destination that is new, or whose place is lost, gets what happens from now on.
    """
    place = await _read(connection, digest)
    now = await connection.one(datetime, _NOW)
    if place is None:
        await _begin(connection, digest)
        return None
    if place.not_before is not None and now < datetime.fromisoformat(place.not_before) <= now + _longest():
        return None
    page = await event_log.read(connection, Cursor.of(place.cursor), limit=MOST, types=_TYPES)
    if page.is_reset:
        await _begin(connection, digest)
        return None
    wanted = [one for one in page.events if _LEVELS.index(AlertLevel(one.data["level"])) <= _LEVELS.index(level)]
    behind = Place(str(page.until))
    if not wanted:
        if page.events:
            await _write(connection, digest, behind)
        return None
    if now < wanted[0].at + timedelta(seconds=TOGETHER_S) and wanted[0].at <= now:
        return None
    await _write(connection, digest, Place(place.cursor, _after(now, SENDING_S), place.failures))
    return Due(await _notices(connection, wanted), Place(behind.cursor, None, place.failures))


async def sent(connection: Connection, digest: str, due: Due) -> None:
    """Note that the destination has it."""
    now = await connection.one(datetime, _NOW)
    await _write(connection, digest, Place(due.place.cursor, _after(now, PAUSE_S)))


async def failed(connection: Connection, digest: str) -> None:
    """Note that it could not be sent: that is tried later, with what has happened by then."""
    place, now = await _read(connection, digest), await connection.one(datetime, _NOW)
    if place is not None:
        failures = place.failures + 1
        await _write(connection, digest, Place(place.cursor, _after(now, PAUSE_S + backoff_s(failures)), failures))


async def _notices(connection: Connection, events: Sequence[Event]) -> list[Notice]:
    """The last event of each alert, with its text where that is kept."""
    last = {one.alert_id: one for one in events if one.alert_id is not None}
    seqs = {alert_id: int(alert_id.removeprefix("alert_")) for alert_id in last}
    rows = await connection.all(_Text, _TEXTS, {"seqs": list(seqs.values())})
    texts = {row.seq: row.message for row in rows}
    return [
        Notice(
            alert_id,
            AlertLevel(one.data["level"]),
            one.data["title"],
            texts.get(seqs[alert_id], ""),
            one.type == EventType.ALERT_RESOLVED,
        )
        for alert_id, one in last.items()
    ]


async def _begin(connection: Connection, digest: str) -> None:
    await _write(connection, digest, Place(str(await event_log.now(connection))))


async def _read(connection: Connection, digest: str) -> Place | None:
    body: dict[str, Any] | None = await connection.one_or_none(dict, _KEPT, {"name": f"notify:{digest}"})
    return None if body is None else Place(**body)


async def _write(connection: Connection, digest: str, place: Place) -> None:
    await connection.execute(_KEEP, {"name": f"notify:{digest}", "body": json.dumps(asdict(place))})


def _after(now: datetime, seconds: float) -> str:
    return (now + timedelta(seconds=seconds)).isoformat()


def _longest() -> timedelta:
    """A moment that lies further ahead was set before the clock was set back."""
    return timedelta(seconds=PAUSE_S + SENDING_S + 60.0)
