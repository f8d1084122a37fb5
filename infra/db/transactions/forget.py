"""Forgetting what is older than a period (`RETAIN_…`): each call forgets one page, the oldest first."""

from __future__ import annotations

from datetime import timedelta

from infra.db import clock
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.ops import event_log, monitor_reports

PAGE = 50
"""The most rows of one kind that a call forgets. It takes four to ten milliseconds, by which it delays others."""


def _ago(period: str) -> str:
    """The time that long ago, by a subquery that an index can be compared with."""
    return f"(SELECT {clock.NOW} - %({period})s)"


def _at_once(*changes: str) -> str:
    """The changes as one statement, which takes one round trip. It checks foreign keys at its end."""
    *others, last = changes
    return f"WITH {', '.join(f'c{i} AS ({change})' for i, change in enumerate(others))} {last}"


_LIMIT = _ago("period")
# What a worker or a node is still to hear of stays.
_OLD_TASKS = f"""
    SELECT task_id FROM tasks t
     WHERE completed_at < {_LIMIT}
       AND NOT EXISTS (SELECT FROM outbox_ends o WHERE o.task_id = t.task_id)
       AND NOT EXISTS (SELECT FROM attempts a WHERE a.task_id = t.task_id AND a.released_at IS NULL)
     ORDER BY completed_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
    """
_FORGET = _at_once(
    *(
        f"DELETE FROM {table} WHERE task_id = ANY (%(ids)s)"
        for table in ("outbox", "deliveries", "late_reports", "task_events", "task_results", "attempts", "tasks")
    )
)
_OLD_PAYLOADS = f"""
    SELECT task_id FROM tasks WHERE completed_at BETWEEN {_ago("whole")} AND {_LIMIT} AND purged_at IS NULL
     ORDER BY completed_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
    """
_PURGE = _at_once(
    "UPDATE task_results SET result = 'null' WHERE task_id = ANY (%(ids)s)",
    "DELETE FROM late_reports WHERE task_id = ANY (%(ids)s)",
    "DELETE FROM deliveries WHERE task_id = ANY (%(ids)s) AND state <> 'PENDING'",  # their bodies hold results
    "UPDATE tasks SET payload = '', purged_at = clock_timestamp() WHERE task_id = ANY (%(ids)s)",
)
_AUDIT = f"DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < {_LIMIT} ORDER BY at LIMIT %(page)s)"
_DELIVERIES = (
    f"DELETE FROM deliveries WHERE delivery_id IN (SELECT delivery_id FROM deliveries WHERE created_at < {_LIMIT}"
    f" AND (state <> 'PENDING' OR created_at < {_ago('pending')}) ORDER BY created_at LIMIT %(page)s)"
)
_ALERTS = (
    f"DELETE FROM alerts WHERE seq IN (SELECT seq FROM alerts WHERE raised_at < {_LIMIT}"
    " ORDER BY raised_at LIMIT %(page)s)"
)
_OPERATIONS = (
    "DELETE FROM operations WHERE operation_id IN (SELECT operation_id FROM operations"
    f" WHERE completed_at < {_LIMIT} ORDER BY completed_at LIMIT %(page)s)"
)
# A drain and a fault outlive a deregistration.
_GONE = f"gone_at < {_LIMIT} AND status <> 'FAULTY' AND drained_at IS NULL"
_LAST_EPOCH = f"SELECT COALESCE(max(epoch), 0) FROM gpus WHERE {_GONE}"
_GONE_NODES = f"SELECT gpu_id FROM gpus WHERE {_GONE} AND epoch <= %(epoch)s LIMIT %(page)s FOR UPDATE SKIP LOCKED"
_FORGET_NODES = _at_once(*(f"DELETE FROM {table} WHERE gpu_id = ANY (%(ids)s)" for table in ("gpu_beats", "gpus")))


async def tasks(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget tasks that ended longer ago than `period`, with all that is theirs. Returns their number."""
    ids = await connection.all(str, _OLD_TASKS, {"period": period, "page": page})
    return await _each(connection, _FORGET, ids)


async def payloads(connection: Connection, period: timedelta, page: int = PAGE, *, whole: timedelta) -> int:
    """Forget payloads, results and late reports of tasks that ended longer ago than `period`. Returns their number.

    Those that ended longer ago than `whole` are left to `tasks`.
    """
    ids = await connection.all(str, _OLD_PAYLOADS, {"period": period, "whole": whole, "page": page})
    return await _each(connection, _PURGE, ids)


async def audit(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget entries of the audit log that are older than `period`. Returns their number."""
    return await connection.execute(_AUDIT, {"period": period, "page": page})


async def deliveries(connection: Connection, period: timedelta, page: int = PAGE, *, pending: timedelta) -> int:
    """Forget deliveries that are older than `period`; those still to send, than `pending`. Returns their number."""
    return await connection.execute(_DELIVERIES, {"period": period, "pending": pending, "page": page})


async def alerts(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget alerts raised longer ago than `period`: a condition that lasts is raised again. Returns their number."""
    return await connection.execute(_ALERTS, {"period": period, "page": page})


async def events(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget events older than `period`, in the order of their log and without a hole. Returns their number."""
    return await event_log.cut_old(connection, period, page)


async def operations(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget bulk operations that ended longer ago than `period`. Returns their number."""
    return await connection.execute(_OPERATIONS, {"period": period, "page": page})


async def nodes(connection: Connection, period: timedelta, page: int = PAGE) -> int:
    """Forget nodes that have been gone for longer than `period`, with their beats. Returns their number.

    A node that comes back gets a later epoch than any that is forgotten. That must be known before: so a node is
    forgotten by the call after the one that found it.
    """
    known = await monitor_reports.read(connection, node_queries.FORGOTTEN)
    epoch = known["epoch"] if known else 0
    ids = await connection.all(str, _GONE_NODES, {"period": period, "epoch": epoch, "page": page})
    count = await _each(connection, _FORGET_NODES, ids)
    last = await connection.one(int, _LAST_EPOCH, {"period": period})
    if last > epoch:
        await monitor_reports.keep(connection, node_queries.FORGOTTEN, {"epoch": last})
    return count


async def _each(connection: Connection, statement: str, ids: list[str]) -> int:
    """Run the statement on these ids. Returns their number."""
    if ids:
        await connection.execute(statement, {"ids": ids})
    return len(ids)
