"""Rows for the tests of the database, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.slots.capacity import Nodes
from infra.db.tasks.new_task import NewTask
from workflows.domain.role import Role

TASK = {"task_type": 1, "status": "QUEUED", "user_id": "u", "app": "a", "priority": 1, "queue_class": 0,
        "payload": "{}", "timeout_ms": 1, "max_retries": 0, "queue_rank": 0}  # fmt: skip
NODE = {"epoch": 1, "status": "ACTIVE", "hostname": "h", "ip": "127.0.0.1", "port": 1, "task_types": [1],
        "priority_queue": "NORMAL", "version": "1", "max_concurrent_tasks": 1, "metadata": "{}"}  # fmt: skip
ATTEMPT = {"attempt": 1, "gpu_id": "g", "gpu_epoch": 1, "slot": 1, "ip": "127.0.0.1", "port": 1}

ALL_TAKEN = Nodes(1, 0, 0, 0, 0, 0, 0, full=1, free=0, slots=1, free_slots=0)
ONE_FREE = Nodes(1, 0, 0, 0, 0, 0, 0, full=0, free=1, slots=1, free_slots=1)

CREATOR = Caller("k", Role.ADMIN, "test", "k")

EMPTY = (
    "TRUNCATE tasks, attempts, task_results, late_reports, task_events, gpus, gpu_beats, alerts, counter_deltas,"
    " audit_log, outbox, outbox_ends, monitor_reports, event_log, operations"
)


def new_task(task_id: str, task_type: int = 1, **more: Any) -> NewTask:
    """A task to create."""
    usual: dict[str, Any] = {"user_id": "u", "app": "a", "priority": 1, "queue_class": 0, "payload": "{}", "env": None,
                             "timeout_ms": 1000, "max_retries": 3, "traceparent": None, "lineage": "k",
                             "idempotency_key": None, "request_hash": None}  # fmt: skip
    return NewTask(task_id=task_id, task_type=task_type, **usual | more)


class Sql(str):
    """An SQL expression, as the value of a column."""

    __slots__ = ()


NOW = Sql("clock_timestamp()")


async def task(connection: Connection | AsyncConnection, task_id: str, **columns: Any) -> None:
    await _insert(connection, "tasks", TASK | {"task_id": task_id} | columns)


async def node(connection: Connection | AsyncConnection, gpu_id: str, **columns: Any) -> None:
    await _insert(connection, "gpus", NODE | {"gpu_id": gpu_id} | columns)


async def attempt(connection: Connection | AsyncConnection, task_id: str, **columns: Any) -> None:
    released = {"released_at": columns["closed_at"]} if "closed_at" in columns else {}
    values = ATTEMPT | {"task_id": task_id} | released | columns
    await _insert(connection, "attempts", {"token": f"{task_id}-{values['attempt']}"} | values)


async def _insert(connection: Connection | AsyncConnection, table: str, values: dict[str, Any]) -> None:
    marks = ", ".join(value if isinstance(value, Sql) else f"%({name})s" for name, value in values.items())
    bound = {name: value for name, value in values.items() if not isinstance(value, Sql)}
    execute = connection.execute if isinstance(connection, Connection) else connection.exec_driver_sql
    await execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", bound)


CROWD = (
    "INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,"
    " max_retries, queue_rank, waiting_since) SELECT 't' || n, 1, 'QUEUED', 'u', 'a', 1, 0, '{}', 1, 0, n,"
    " clock_timestamp() FROM generate_series(1, 3000) n"
)
"""3,000 tasks of type 1 that wait."""


async def crowd(connection: Connection) -> None:
    """Insert `CROWD` for plans: those of an empty table depend on when it was analysed."""
    await connection.execute(CROWD)
    await connection.execute("ANALYZE tasks")
