"""Deliveries: one row for each event and webhook, written by a trigger in the transaction of the event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection
from infra.db.ops import event_log

MOST_COUNTED = 10_000
"""A total is exact up to here, and a page beyond is empty: it would be read from the beginning of the list."""
MOST_REPLAYED = 10_000
"""Deliveries of one replay: one transaction."""


@dataclass(frozen=True)
class Delivery:
    """A delivery as it is listed."""

    delivery_id: int
    event_id: str
    state: str
    tries: int
    last_status: int | None
    last_error: str | None
    next_try_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class OfTask(Delivery):
    """A delivery of a task's event, and its webhook; `url`: its own one, or the webhook's."""

    webhook_id: str
    url: str | None


EVENT_ID = f"""
    COALESCE(d.event_id, 'evt_' || {event_log.NAME} || '_' || to_hex(d.event_xid) || '_' || to_hex(d.event_no))"""
"""The public id of the event (`event_log.Cursor`)."""
_PAGE = f"""
    SELECT delivery_id, {EVENT_ID} AS event_id, state, tries, last_status, last_error, next_try_at, created_at
      FROM deliveries d WHERE webhook_id = %(webhook_id)s
     ORDER BY created_at DESC, delivery_id DESC LIMIT %(limit)s OFFSET %(offset)s
    """
_OF_TASK = f"""
    SELECT delivery_id, {EVENT_ID} AS event_id, d.state, tries, last_status, last_error, next_try_at, d.created_at,
           d.webhook_id, COALESCE(d.url, w.url) AS url
      FROM deliveries d JOIN webhooks w USING (webhook_id)
     WHERE d.task_id = %(task_id)s AND (CAST(%(owner)s AS text) IS NULL OR w.owner = %(owner)s)
     ORDER BY d.delivery_id DESC LIMIT %(limit)s
    """
_COUNT = """
    SELECT count(*) FROM (SELECT FROM deliveries WHERE webhook_id = %(webhook_id)s LIMIT %(most)s) counted
    """
_WEBHOOK = "SELECT webhook_id FROM deliveries WHERE delivery_id = %(delivery_id)s"
_ADD = """
    INSERT INTO deliveries (webhook_id, event_id, body, next_try_at)
    VALUES (%(webhook_id)s, %(event_id)s, %(body)s, clock_timestamp()) RETURNING delivery_id
    """
_IN_RANGE = """
    webhook_id = %(webhook_id)s AND created_at >= %(since)s AND created_at < %(until)s + interval '1 ms'
     AND state = ANY (%(states)s)
    """
_COUNT_RANGE = f"SELECT count(*) FROM (SELECT FROM deliveries WHERE {_IN_RANGE} LIMIT {MOST_REPLAYED + 1}) counted"
_ANEW = "UPDATE deliveries SET state = 'PENDING', tries = 0, next_try_at = clock_timestamp()"
_REPLAY_RANGE = f"{_ANEW} WHERE {_IN_RANGE}"
_REPLAY = f"{_ANEW} WHERE delivery_id = %(delivery_id)s"


async def page(connection: Connection, webhook_id: str, *, limit: int, offset: int) -> tuple[list[Delivery], int]:
    """One page of a webhook's deliveries, newest first, and their number up to `MOST_COUNTED`, or one more."""
    values = {"webhook_id": webhook_id, "limit": limit, "offset": offset, "most": MOST_COUNTED + 1}
    total = await connection.one(int, _COUNT, values)
    is_there = offset < min(total, MOST_COUNTED)
    return (await connection.all(Delivery, _PAGE, values) if is_there else []), total


async def of_task(connection: Connection, task_id: str, owner: str | None, *, limit: int) -> list[OfTask]:
    """The latest deliveries of a task's events, to webhooks of an owner, or to all if that is None."""
    return await connection.all(OfTask, _OF_TASK, {"task_id": task_id, "owner": owner, "limit": limit})


async def webhook_of(connection: Connection, delivery_id: int) -> str | None:
    """The webhook of a delivery, or None."""
    return await connection.one_or_none(str, _WEBHOOK, {"delivery_id": delivery_id})


async def add(connection: Connection, webhook_id: str, event_id: str, body: bytes) -> int:
    """Add one that belongs to no event of the log. Returns its number."""
    values = {"webhook_id": webhook_id, "event_id": event_id, "body": body}
    return await connection.one(int, _ADD, values)


async def replay(connection: Connection, delivery_id: int) -> int:
    """Let one be sent again now, as if for the first time."""
    return await connection.execute(_REPLAY, {"delivery_id": delivery_id})


async def replay_range(
    connection: Connection, webhook_id: str, since: datetime, until: datetime, *, failed_only: bool
) -> int | None:
    """Let those of events from one millisecond to another be sent again now, but not those that are PENDING.

    Returns how many, or None if they are more than `MOST_REPLAYED`.
    """
    states = ["DEAD"] if failed_only else ["DEAD", "DELIVERED"]
    values = {"webhook_id": webhook_id, "since": since, "until": until, "states": states}
    if await connection.one(int, _COUNT_RANGE, values) > MOST_REPLAYED:
        return None
    return await connection.execute(_REPLAY_RANGE, values)
