"""The deliveries to send now, and how they went.

A turn of a webhook's workflow takes what is due, a few at a time. A body is written with the first try, and sent again
as it is. Every outcome is guarded by the number of tries, so only one of two concurrent tries is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from infra.db.access.callers import IS_LIVE
from infra.db.connection import Connection
from infra.db.webhooks import body as bodies
from infra.db.webhooks import subscriptions
from infra.db.webhooks.deliveries import EVENT_ID

AT_ONCE = 10
"""Deliveries of one host that are taken at once."""
MOST = 5 * AT_ONCE
"""Deliveries that are taken at once."""
WINDOW = 1000
"""Due deliveries among which those of other hosts are looked for."""
UNATTENDED_S = 60
"""Seconds until the leader notifies a workflow again that has not begun a turn."""
ATTENDED_S = 10
"""Seconds until the leader looks again at a webhook in whose turn something was taken."""
ENDED_AT_ONCE = 1000


class Places(Protocol):
    """The bounds on tries that are under way."""

    def room(self, owner: str, webhook_id: str) -> int:
        """Tries of a webhook that may begin now."""

    def full_hosts(self, owner: str) -> Sequence[str]:
        """Hosts at which none of an owner may."""


@dataclass(frozen=True)
class DueDelivery:
    """A delivery to send."""

    delivery_id: int
    tries: int
    event_id: str
    url: str
    host: str
    is_of_webhook: bool
    """Whether it goes to the webhook's own URL, not to that of a task."""
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class WebhookTurn:
    """The webhook as it is now; `due` is empty unless it is ACTIVE."""

    state: str | None
    """None if it is deleted."""
    owner: str = ""
    secrets: Sequence[str] = field(default=(), repr=False)
    due: Sequence[DueDelivery] = ()
    has_key: bool = True
    """Whether its owner has a live key that may see its events. Without one it is to be disabled."""


@dataclass(frozen=True)
class _Known:
    state: str
    owner: str
    has_key: bool


@dataclass(frozen=True)
class _Row:
    delivery_id: int
    tries: int
    event_id: str
    url: str
    host: str
    is_of_webhook: bool
    body: bytes | None
    type: str | None
    at: datetime | None
    task_id: str | None
    gpu_id: str | None
    alert_id: str | None
    data: dict[str, Any] | None
    result: str | None


_HOST = r"://(?:[^/?#@]*@)?(\[[^]]*\]|[^/:?#]*)"
"""The part of a URL by which tries at the same time are counted: `Tries.reserve`."""
_ATTEND = f"""
    UPDATE webhooks SET look_after = clock_timestamp() + interval '{ATTENDED_S} s'
     WHERE webhook_id = %(webhook_id)s AND state <> 'DELETED'
       AND (look_after IS NULL OR look_after NOT BETWEEN clock_timestamp() + interval '{ATTENDED_S // 2} s'
                                                     AND clock_timestamp() + interval '{ATTENDED_S} s')
    """
_KNOWN = f"""
    SELECT state, owner, EXISTS (SELECT FROM api_keys k WHERE k.owner = w.owner AND {IS_LIVE.format(key="k")}
                             AND (NOT w.sees_all OR k.role IN ('operator', 'admin'))) AS has_key
      FROM webhooks w WHERE webhook_id = %(webhook_id)s AND state <> 'DELETED'
    """
_DUE = f"""
    SELECT d.delivery_id, d.tries, {EVENT_ID} AS event_id, d.url, d.host, d.is_of_webhook, d.body,
           e.type, e.at, e.task_id, e.gpu_id, e.alert_id, e.data, r.result
      FROM (SELECT d.*, row_number() OVER (PARTITION BY d.host ORDER BY d.next_try_at, d.delivery_id) AS place
              FROM (SELECT d.delivery_id, d.tries, d.event_id, d.event_xid, d.event_no, d.body, d.next_try_at,
                           COALESCE(d.url, w.url) AS url, d.url IS NULL AS is_of_webhook,
                           lower(substring(COALESCE(d.url, w.url) FROM %(host)s)) AS host
                      FROM deliveries d JOIN webhooks w ON w.webhook_id = d.webhook_id
                     WHERE d.webhook_id = %(webhook_id)s AND d.state = 'PENDING'
                       AND d.next_try_at <= clock_timestamp() AND d.delivery_id <> ALL (%(taken)s)
                     ORDER BY d.next_try_at, d.delivery_id LIMIT {WINDOW}) d
             WHERE d.host <> ALL (CAST(%(full)s AS text[]))) d
      LEFT JOIN event_log e ON e.xid = d.event_xid AND e.id = d.event_no
      LEFT JOIN task_results r ON r.task_id = e.task_id AND e.type = 'task.ended' AND d.body IS NULL
            AND EXISTS (SELECT FROM tasks t WHERE t.task_id = r.task_id AND t.purged_at IS NULL)
     WHERE d.place <= {AT_ONCE} ORDER BY d.next_try_at, d.delivery_id LIMIT %(most)s
    """
_WRITE_BODY = """
    UPDATE deliveries SET body = %(body)s, event_id = %(event_id)s
     WHERE delivery_id = %(delivery_id)s AND body IS NULL
    """
_DONE = """
    WITH done AS (
    UPDATE deliveries SET tries = tries + 1, last_status = %(status)s, last_error = %(error)s,
           state = CASE WHEN %(accepted)s THEN 'DELIVERED' WHEN CAST(%(wait_s)s AS float8) IS NULL THEN 'DEAD'
                        ELSE 'PENDING' END,
           next_try_at = CASE WHEN NOT %(accepted)s THEN clock_timestamp() + make_interval(secs => %(wait_s)s) END
     WHERE delivery_id = %(delivery_id)s AND state = 'PENDING' AND tries = %(tries)s
    RETURNING state),
    counted AS (INSERT INTO counter_deltas SELECT 'ever:deliveries', state, 1 FROM done WHERE state <> 'PENDING')
    SELECT true FROM done
    """
_NEXT = """
    SELECT CAST(EXTRACT(epoch FROM next_try_at - clock_timestamp()) AS float8) FROM deliveries
     WHERE webhook_id = %(webhook_id)s AND state = 'PENDING' ORDER BY next_try_at LIMIT 1
    """
_LEAVE = "UPDATE webhooks SET look_after = NULL WHERE webhook_id = %(webhook_id)s AND look_after IS NOT NULL"
_END = f"""
    WITH ended AS (
    UPDATE deliveries SET state = 'DEAD', next_try_at = NULL
     WHERE delivery_id IN (SELECT delivery_id FROM deliveries WHERE webhook_id = %(webhook_id)s AND state = 'PENDING'
                            LIMIT {ENDED_AT_ONCE})
    RETURNING true),
    counted AS (
        INSERT INTO counter_deltas SELECT 'ever:deliveries', 'DEAD', count(*) FROM ended HAVING count(*) > 0)
    SELECT true FROM ended
    """
_UNATTENDED = f"""
    UPDATE webhooks SET look_after = clock_timestamp() + interval '{UNATTENDED_S} s'
     WHERE webhook_id IN (
        SELECT webhook_id FROM webhooks w
         WHERE state <> 'DELETED' AND (look_after IS NULL OR look_after NOT BETWEEN clock_timestamp()
                                        AND clock_timestamp() + interval '{UNATTENDED_S} s')
           AND EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'PENDING'
                          AND d.next_try_at <= clock_timestamp())
         LIMIT %(limit)s)
    RETURNING webhook_id
    """
_DELETED = "SELECT webhook_id FROM webhooks WHERE state = 'DELETED' LIMIT 10"
_PURGE = f"""
    DELETE FROM deliveries WHERE delivery_id IN (
        SELECT delivery_id FROM deliveries WHERE webhook_id = %(webhook_id)s LIMIT {ENDED_AT_ONCE})
    """
_FORGET = "DELETE FROM webhooks WHERE webhook_id = %(webhook_id)s AND state = 'DELETED'"


async def take(connection: Connection, webhook_id: str, taken: Sequence[int], places: Places) -> WebhookTurn:
    """Take the deliveries that are due and have a place, except those that are being sent: none without a live key."""
    values: dict[str, Any] = {"webhook_id": webhook_id, "taken": list(taken), "host": _HOST}
    await connection.execute(_ATTEND, values)
    known = await connection.one_or_none(_Known, _KNOWN, values)
    if known is None:
        return WebhookTurn(None)
    if known.state != "ACTIVE" or not known.has_key:
        return WebhookTurn(known.state, has_key=known.has_key)
    most = min(MOST, places.room(known.owner, webhook_id))
    if not most:
        return WebhookTurn(known.state, known.owner)
    values |= {"most": most, "full": list(places.full_hosts(known.owner))}
    rows = await connection.all(_Row, _DUE, values)
    due = [one for row in rows if (one := await _with_body(connection, row)) is not None]
    secrets = await subscriptions.secrets(connection, webhook_id) if due else ()
    return WebhookTurn(known.state, known.owner, secrets, due)


async def _with_body(connection: Connection, row: _Row) -> DueDelivery | None:
    """The delivery with its bytes, which are kept from now on. None if its event is forgotten: it is dead."""
    body = row.body
    if body is None:
        if row.type is None or row.at is None or row.data is None:
            await note(connection, row.delivery_id, row.tries, status=None, error="EVENT", wait_s=None)
            return None
        named = {"task_id": row.task_id, "gpu_id": row.gpu_id, "alert_id": row.alert_id}
        body = bodies.of_event(row.event_id, row.type, row.at, row.data, result=row.result, **named)
        values = {"delivery_id": row.delivery_id, "event_id": row.event_id, "body": body}
        await connection.execute(_WRITE_BODY, values)
    return DueDelivery(row.delivery_id, row.tries, row.event_id, row.url, row.host, row.is_of_webhook, body)


async def note(
    connection: Connection,
    delivery_id: int,
    tries: int,
    *,
    status: int | None,
    error: str | None,
    wait_s: float | None,
    accepted: bool = False,
) -> bool:
    """Note how a try went; without `wait_s` it was the last one. Returns False if it was noted already."""
    values = {"delivery_id": delivery_id, "tries": tries, "status": status, "error": error, "wait_s": wait_s}
    return await connection.execute(_DONE, values | {"accepted": accepted}) > 0


async def leave(connection: Connection, webhook_id: str) -> float | None:
    """End a turn. Returns the seconds until the next try, or None if nothing is left to send."""
    values = {"webhook_id": webhook_id}
    await connection.execute(_LEAVE, values)
    return await connection.one_or_none(float, _NEXT, values)


async def end(connection: Connection, webhook_id: str) -> int:
    """Give up some of the deliveries that are left, of a disabled webhook. Returns how many."""
    return await connection.execute(_END, {"webhook_id": webhook_id})


async def unattended(connection: Connection, limit: int) -> list[str]:
    """Webhooks with something to send whose workflow has to be notified; they count as attended for a while."""
    return await connection.all(str, _UNATTENDED, {"limit": limit})


async def unattend(connection: Connection, webhook_id: str) -> None:
    """Undo that: the notification has failed."""
    await connection.execute(_LEAVE, {"webhook_id": webhook_id})


async def deleted(connection: Connection) -> list[str]:
    """Some webhooks that are deleted and not forgotten yet."""
    return await connection.all(str, _DELETED)


async def purge(connection: Connection, webhook_id: str) -> int:
    """Delete some deliveries of a deleted webhook. Returns how many."""
    return await connection.execute(_PURGE, {"webhook_id": webhook_id})


async def forget(connection: Connection, webhook_id: str) -> None:
    """Delete the row of a deleted webhook."""
    await connection.execute(_FORGET, {"webhook_id": webhook_id})
