"""The event log: what has happened to tasks, nodes and alerts, in an order that a reader can go on from (ADR 0039).

Triggers write it, in the transaction of what happens. Identity columns commit out of order, so the place of an event is
(xid, id), and only what lies below every running transaction is read: nothing can come before that any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from infra.db import clock
from infra.db.connection import Connection, columns
from workflows.domain.event import OF_USERS, EventType

MOST = 1000
"""Events of a page."""

CURSOR = r"evt_([0-9a-f]{8})_([0-9a-f]{1,15})_([0-9a-f]{1,15})"
"""The text of a cursor."""


class BadCursor(ValueError):
    """A text that is no cursor."""


@dataclass(frozen=True, order=True)
class Cursor:
    """A place in a log. Its text is the public id of the event there."""

    log: str  # names the database, and the epoch of its log
    xid: int
    id: int

    def __str__(self) -> str:
        return f"evt_{self.log}_{self.xid:x}_{self.id:x}"

    @staticmethod
    def of(text: str) -> Cursor:
        """The cursor with this text. Raises BadCursor."""
        parts = re.fullmatch(CURSOR, text)
        if parts is None:
            raise BadCursor(text)
        return Cursor(parts[1], int(parts[2], 16), int(parts[3], 16))


@dataclass(frozen=True)
class Event:
    """An entry of the event log. `user_id` and `lineage` say whose task it is about; the other fields are public."""

    xid: int
    id: int
    type: str
    at: datetime
    task_id: str | None
    gpu_id: str | None
    alert_id: str | None
    user_id: str | None
    lineage: str | None
    data: dict[str, Any]


def encoded(
    event_id: str,
    kind: str,
    at: datetime,
    data: Mapping[str, object],
    *,
    task_id: str | None = None,
    gpu_id: str | None = None,
    alert_id: str | None = None,
) -> bytes:
    """An event as JSON: the same in a list, in a stream and in a webhook."""
    named = {"taskId": task_id, "gpuId": gpu_id, "alertId": alert_id}
    head = {"id": event_id, "type": kind, "time": clock.unix_ms(at)}
    about = {name: value for name, value in named.items() if value is not None}
    return msgspec.json.encode(head | about | {"data": data})


@dataclass(frozen=True)
class Page:
    """Events after a cursor, in order.

    `since` is the cursor, or, where that is of another log or older than what is kept, the beginning of the log; then
    `is_reset`. `until` is the cursor to go on with: the last event of a full page, otherwise where the reading ended.
    """

    since: Cursor
    is_reset: bool
    events: list[Event]
    until: Cursor

    def of(self, event: Event) -> Cursor:
        """The public id of one of the events."""
        return Cursor(self.since.log, event.xid, event.id)


@dataclass(frozen=True)
class Whose:
    """The caller whose tasks are meant: those that it owns, and those that its key created for others."""

    owner: str
    lineage: str


@dataclass(frozen=True)
class _Row(Event):  # without an event the fields of one are null
    log: str
    from_xid: int
    from_id: int
    is_reset: bool
    looked_xid: int


# A dump that is restored elsewhere has another system or database; its transactions are counted from the start.
_NAME = """
    left(encode(sha256(convert_to(epoch || ' ' || (SELECT system_identifier FROM pg_control_system()) || ' '
         || (SELECT oid FROM pg_database WHERE datname = current_database()), 'UTF8')), 'hex'), 8)"""
NAME = f"(SELECT {_NAME} FROM event_log_state)"
"""The log's part of the public id of an event."""
DONE = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
_NEXT = "CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
_LOG = f"""
    WITH log AS MATERIALIZED (
        SELECT log, is_reset, {DONE} - 1 AS looked_xid, CASE WHEN goes_on THEN %(xid)s ELSE cut_xid END AS from_xid,
               CASE WHEN goes_on THEN %(id)s ELSE cut_id END AS from_id
          FROM (SELECT *, CAST(%(log)s AS text) IS NOT NULL AND NOT fits AS is_reset, COALESCE(fits, false) AS goes_on
                  FROM (SELECT *, %(log)s = log AND (CAST(%(xid)s AS bigint), CAST(%(id)s AS bigint))
                                  >= (cut_xid, cut_id) AND %(xid)s < {_NEXT} AS fits
                          FROM (SELECT {_NAME} AS log, cut_xid, cut_id FROM event_log_state) named) compared) decided)
    """
_LAST_ID = 2**59
"""Behind every event of a transaction."""
_BEHIND = f"(xid, id) > (log.from_xid, log.from_id) AND xid < {DONE}"


def _some(where: str) -> str:
    return f"(SELECT {columns(Event)} FROM event_log WHERE {where} AND {_BEHIND} ORDER BY xid, id LIMIT %(limit)s)"


def _of_types(where: str) -> str:
    """One stretch of an index for each type."""
    return (
        f"(SELECT e.* FROM unnest(CAST(%(types)s AS text[])) AS k (kind)"
        f" CROSS JOIN LATERAL {_some(f'type = k.kind AND {where}')} e)"
    )


def _reading(source: str) -> str:
    return (
        f"{_LOG} SELECT log, from_xid, from_id, is_reset, looked_xid, {columns(Event)}"
        f" FROM log LEFT JOIN LATERAL (SELECT * FROM {source} e ORDER BY xid, id LIMIT %(limit)s) e ON true"
        " ORDER BY xid, id"
    )


_ALL = _reading(_some("true"))
_OF_TYPES = _reading(_of_types("true"))
_OF_USER = _reading(
    f"({_of_types('user_id = %(owner)s')} UNION ALL"
    f" {_of_types('lineage = %(lineage)s AND user_id IS DISTINCT FROM %(owner)s')})"
)
_OF_TASK = _reading(_some("task_id = %(task_id)s"))
_NOW = f"SELECT {_NAME} AS log, {DONE} - 1 AS xid, CAST({_LAST_ID} AS bigint) AS id FROM event_log_state"


async def now(connection: Connection) -> Cursor:
    """The cursor after all that can be read now."""
    return await connection.one(Cursor, _NOW)


async def read(
    connection: Connection,
    after: Cursor | None,
    *,
    limit: int = MOST,
    types: Sequence[EventType] | None = None,
    whose: Whose | None = None,
) -> Page:
    """Events after a cursor; without one, from the beginning of what is kept.

    `types` None: of all types. `whose` None: of all tasks, and of nodes and alerts.
    """
    values = {"types": types, "limit": limit}
    if whose is not None:
        asked = OF_USERS if types is None else [one for one in types if one in OF_USERS]
        return await _page(connection, _OF_USER, after, values | whose.__dict__ | {"types": list(asked)})
    return await _page(connection, _ALL if types is None else _OF_TYPES, after, values)


async def read_task(connection: Connection, task_id: str, after: Cursor | None) -> Page:
    """The events of one task after a cursor."""
    return await _page(connection, _OF_TASK, after, {"task_id": task_id, "limit": MOST})


async def _page(connection: Connection, statement: str, after: Cursor | None, values: dict[str, Any]) -> Page:
    place = {"log": None, "xid": None, "id": None} if after is None else after.__dict__
    rows = await connection.all(_Row, statement, values | place)
    first = rows[0]
    events: list[Event] = [row for row in rows if row.id is not None]
    since = Cursor(first.log, first.from_xid, first.from_id)
    if len(events) < values["limit"]:
        until = max(since, Cursor(first.log, first.looked_xid, _LAST_ID))
    else:
        until = Cursor(first.log, events[-1].xid, events[-1].id)
    return Page(since, first.is_reset, events, until)


# The time of an event in the future is unknown: it counts as old as the next event whose time is known.
_LAST_OLD = f"""
    WITH page AS MATERIALIZED (
         SELECT xid, id, at FROM event_log WHERE xid < {DONE} ORDER BY xid, id LIMIT %(page)s),
         last AS (SELECT xid, id FROM page ORDER BY xid DESC, id DESC LIMIT 1),
         behind AS (
         SELECT xid, id, at FROM event_log
          WHERE (xid, id) > ((SELECT xid FROM last), (SELECT id FROM last)) AND xid < {DONE} AND at <= {clock.NOW}
          ORDER BY xid, id LIMIT 1),
         old AS (
         SELECT xid, id
           FROM (SELECT *, bool_and({clock.long_ago("at", "%(period)s")}) OVER (ORDER BY xid, id) AS is_prefix
                   FROM (TABLE page UNION ALL TABLE behind) seen) marked
          WHERE is_prefix AND at <= {clock.NOW} ORDER BY xid DESC, id DESC LIMIT 1)
    SELECT '' AS log, page.xid, page.id FROM page, old WHERE (page.xid, page.id) <= (old.xid, old.id)
     ORDER BY page.xid DESC, page.id DESC LIMIT 1
    """
# Many events may be of one transaction: then a plan without a limit takes them all for old, and reads the whole log.
_CUT = """
    WITH state AS (
        UPDATE event_log_state SET cut_xid = %(xid)s, cut_id = %(id)s WHERE (cut_xid, cut_id) < (%(xid)s, %(id)s))
    DELETE FROM event_log WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM event_log WHERE (xid, id) <= (%(xid)s, %(id)s) ORDER BY xid, id LIMIT %(page)s))
    """


async def cut(connection: Connection, up_to: Cursor, page: int) -> int:
    """Forget the events up to a cursor, and that one, of which there are at most `page`. Returns how many.

    Older cursors get a reset from then on.
    """
    return await connection.execute(_CUT, {"xid": up_to.xid, "id": up_to.id, "page": page})


async def cut_old(connection: Connection, period: timedelta, page: int) -> int:
    """Forget events from the beginning of the log up to the first one younger than `period`, at most `page`."""
    last = await connection.one_or_none(Cursor, _LAST_OLD, {"period": period, "page": page})
    return 0 if last is None else await cut(connection, last, page)
