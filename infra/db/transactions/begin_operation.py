"""Asking for a bulk operation: how many tasks it would change, and its row, from which it is carried out."""

from __future__ import annotations

import json

from infra.db import locks
from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.tasks import operations
from infra.db.tasks.filters import TaskFilter
from infra.db.tasks.operations import Operation
from workflows.domain.errors import IdempotencyConflict, TooManyOperations
from workflows.domain.operation import OperationKind, OperationState

MOST_RUNNING = 4
"""Operations of a lineage at once: fewer than a worker's pages, so that others have their turn."""
_ACTIONS = {OperationKind.CANCEL: Action.TASKS_CANCEL, OperationKind.RETRY: Action.TASKS_RETRY}


async def count(connection: Connection, kind: OperationKind, chosen: TaskFilter) -> int:
    """The number of tasks that it would change now."""
    return await operations.matched(connection, kind, chosen, await operations.now(connection))


async def begin(
    connection: Connection,
    by: Caller,
    operation_id: str,
    kind: OperationKind,
    chosen: TaskFilter,
    *,
    reason: str | None,
    idempotency_key: str | None,
    request_hash: str,
) -> Operation:
    """Write the operation with an entry in the audit log, or return the earlier one of the same request.

    Raises IdempotencyConflict if the key was used with another request, and TooManyOperations.
    """
    await locks.request(connection, by.lineage, idempotency_key)
    if seen := await earlier(connection, by, idempotency_key, request_hash):  # however many run
        return seen
    await _check_bound(connection, by)  # before the tasks are counted, which may take long
    moment = await operations.now(connection)
    matched = await operations.matched(connection, kind, chosen, moment)
    operation = Operation(
        operation_id=operation_id,
        kind=kind,
        filter=chosen.given,
        reason=reason,
        key_id=by.key_id,
        owner=by.owner,
        role=by.role,
        lineage=by.lineage,
        grants=by.limits.shown(),
        idempotency_key=idempotency_key,
        request_hash=request_hash,
        asked_at=moment.asked_at,
        bound=moment.bound,
        matched=matched,
        state=OperationState.RUNNING if matched else OperationState.DONE,
    )
    if matched:
        await locks.bulk_operations(connection, by.lineage)
        await _check_bound(connection, by)
    if not await operations.add(connection, operation):  # a program of the previous version was faster
        if seen := await earlier(connection, by, idempotency_key, request_hash):
            return seen
        raise IdempotencyConflict
    await audit.record(connection, by, _ACTIONS[kind], operation_id, _detail(operation))
    return operation


async def earlier(
    connection: Connection, by: Caller, idempotency_key: str | None, request_hash: str
) -> Operation | None:
    """The operation that the caller's request began before, or None.

    Raises IdempotencyConflict if the key was used with another request.
    """
    if idempotency_key is None:
        return None
    seen = await operations.seen(connection, by.lineage, idempotency_key)
    if seen is not None and seen.request_hash != request_hash:
        raise IdempotencyConflict
    return seen


async def _check_bound(connection: Connection, by: Caller) -> None:
    if await operations.running(connection, by.lineage) >= MOST_RUNNING:
        raise TooManyOperations


def _detail(operation: Operation) -> str:
    given = {name: value for name, value in operation.filter.items() if name != "task_ids"}
    if (task_ids := operation.filter.get("task_ids")) is not None:
        given["ids"] = len(task_ids)
    parts = [f"matched {operation.matched}", json.dumps(given, ensure_ascii=False)]
    return ", ".join([*parts, operation.reason] if operation.reason else parts)
