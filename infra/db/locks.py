"""Every advisory lock. Each is held until its transaction ends.

`README.md` of this folder has the order in which a transaction takes them, and the rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from infra.db.connection import Connection

MIGRATION_BEFORE = "SELECT pg_advisory_xact_lock(7100)"
"""Held by programs of before revision 0011 while they migrate."""
TRY_MIGRATION = "SELECT pg_try_advisory_lock(7106)"
"""Held by the migration's session, not by a transaction."""
BOOTSTRAP_KEY, OWN_NODES, FLEET, REQUEST, OPERATIONS, USER, WAITS, TYPE, FLOW, LATE_REPORTS = (
    7104, 7108, 7109, 7110, 7111, 7105, 7112, 7101, 7103, 7107)  # fmt: skip
"""The numbers of locks, in the order in which they are taken."""

TYPES = 64
"""Locks that the task types share, so that no number of types and nodes fills Postgres' lock table.

Types that share one only wait for each other. Neighbouring small numbers, as types usually are, have locks of their
own.
"""


def _of_type(task_type: str) -> str:
    return f"CAST({task_type} & {TYPES - 1} AS integer)"


_ONE = "SELECT pg_advisory_xact_lock(%(lock)s)"
_NAMED = "SELECT pg_advisory_xact_lock(%(lock)s, hashtext(%(name)s))"
_USERS = f"""
    SELECT pg_advisory_xact_lock({USER}, h)
      FROM (SELECT DISTINCT hashtext(u) AS h FROM unnest(CAST(%(user_ids)s AS text[])) AS users(u) ORDER BY 1) locks
"""
_TYPES = f"""
    SELECT pg_advisory_xact_lock(%(lock)s, h)
      FROM (SELECT DISTINCT {_of_type("t")} AS h FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(t)
             ORDER BY 1) locks
"""
_TAKE_TYPE = f"pg_advisory_xact_lock({TYPE}, {_of_type('CAST(%(task_type)s AS bigint)')})"
_TYPE = f"SELECT {_TAKE_TYPE}"
_FLOW_OF_CLASS = "CAST(%(queue_class)s AS integer) || '/' || CAST(%(flow)s AS text)"
_TYPE_AND_FLOW = f"SELECT {_TAKE_TYPE}, pg_advisory_xact_lock({FLOW}, hashtext({_FLOW_OF_CLASS}))"

_RELEASING = f"""
    SELECT gpu_id, pg_advisory_xact_lock_shared({TYPE}, h)
      FROM (SELECT DISTINCT gpu_id, {_of_type("t")} AS h FROM ({{types}}) AS types(gpu_id, t) ORDER BY 2) locks
"""
_RELEASING_NODE = _RELEASING.format(types="SELECT gpu_id, unnest(task_types) FROM gpus WHERE gpu_id = %(gpu_id)s")
_RELEASING_ATTEMPT = _RELEASING.format(
    types="SELECT gpu_id, unnest(g.task_types) FROM attempts a JOIN gpus g USING (gpu_id)"
    " WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s"
)
_RELEASING_BY_REGISTRATION = _RELEASING.format(
    types="SELECT gpu_id, unnest(task_types) FROM gpus WHERE gpu_id = %(gpu_id)s"
    " UNION ALL SELECT CAST(%(gpu_id)s AS text), unnest(CAST(%(task_types)s AS bigint[]))"
)


async def bootstrap_key(connection: Connection) -> None:
    """Let one process at a time make the bootstrap key."""
    await connection.execute(_ONE, {"lock": BOOTSTRAP_KEY})


async def own_nodes(connection: Connection) -> None:
    """Let one process at a time look for the key of a stack's own nodes: they ask at the same time."""
    await connection.execute(_ONE, {"lock": OWN_NODES})


async def fleet(connection: Connection, lineage: str | None) -> None:
    """Let no two registrations of a lineage pass its limits at once."""
    await connection.execute(_NAMED, {"lock": FLEET, "name": lineage})


async def request(connection: Connection, lineage: str, idempotency_key: str | None) -> None:
    """Let no two requests with one Idempotency-Key run at once. One that writes rows before it takes its type's lock
    would otherwise deadlock with one that holds that lock and waits for the rows."""
    if idempotency_key is not None:
        await connection.execute(_NAMED, {"lock": REQUEST, "name": f"{lineage} {idempotency_key}"})


async def bulk_operations(connection: Connection, lineage: str) -> None:
    """Let no two bulk operations of a lineage pass their bound at once."""
    await connection.execute(_NAMED, {"lock": OPERATIONS, "name": lineage})


async def user(connection: Connection, user_id: str) -> None:
    """Let no two tasks of a user pass the cap at once."""
    await connection.execute(_NAMED, {"lock": USER, "name": user_id})


async def users(connection: Connection, user_ids: Collection[str]) -> None:
    """`user` for several."""
    await connection.execute(_USERS, {"user_ids": list(user_ids)})


async def waits(connection: Connection, task_types: Collection[int]) -> None:
    """Let no two batches with a `maxWait` count the same free slots of these types. No release waits for this lock."""
    await connection.execute(_TYPES, {"lock": WAITS, "task_types": list(task_types)})


async def types(connection: Connection, task_types: Collection[int]) -> None:
    """`type_exclusively` for several. With all that share a node held, no two tasks of a flow get the same place."""
    await connection.execute(_TYPES, {"lock": TYPE, "task_types": list(task_types)})


async def type_exclusively(connection: Connection, task_type: int) -> None:
    """Take the type's lock exclusively: until the commit nothing can free a slot for this type (see `slots.search`)."""
    await connection.execute(_TYPE, {"task_type": task_type})


@dataclass(frozen=True)
class Release:
    """The locks of this node's types are held, shared: now its capacity may be freed. Only this module makes one."""

    gpu_id: str


async def releasing(connection: Connection, gpu_id: str) -> Release:
    """Take the locks of a node's types. Must come first in every transaction that frees capacity of a node."""
    await connection.execute(_RELEASING_NODE, {"gpu_id": gpu_id})
    return Release(gpu_id)


async def releasing_attempt(connection: Connection, task_id: str, attempt: int) -> Release | None:
    """Take the locks of `releasing` for the node of an attempt; None if there is no such attempt."""
    gpu_ids = await connection.all(str, _RELEASING_ATTEMPT, {"task_id": task_id, "attempt": attempt})
    return Release(gpu_ids[0]) if gpu_ids else None


async def releasing_by_registration(connection: Connection, gpu_id: str, task_types: list[int]) -> Release:
    """Take the locks of `releasing` for a node that is about to have these types, and may have others now."""
    await connection.execute(_RELEASING_BY_REGISTRATION, {"gpu_id": gpu_id, "task_types": task_types})
    return Release(gpu_id)


async def type_and_flow(connection: Connection, task_type: int, queue_class: int, flow: str) -> None:
    """Take the lock of `type_exclusively`, and let no two tasks of a class and flow get the same place."""
    values = {"task_type": task_type, "queue_class": queue_class, "flow": flow}
    await connection.execute(_TYPE_AND_FLOW, values)


async def late_reports(connection: Connection, task_id: str) -> None:
    """Let one transaction at a time keep late reports of a task. The last lock of a transaction."""
    await connection.execute(_NAMED, {"lock": LATE_REPORTS, "name": task_id})
