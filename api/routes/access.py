"""Access to rows (INVARIANTS, "Who may call what"): who owns a task, an operation or a GPU."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from fastapi import Depends

from api.dependencies import Context, ContextOf
from api.middleware.authentication import CallerOf
from api.schemas.params import NodeId
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.tasks.operations import Operation
from workflows.domain.errors import TaskNotFound
from workflows.domain.role import Role


class Owned(Protocol):
    """The owner of a task."""

    @property
    def user_id(self) -> str: ...
    @property
    def lineage(self) -> str | None: ...


T = TypeVar("T", bound=Owned)
Read = Callable[[Connection, str], Awaitable[T | None]]


def owner_seen_by(caller: Caller) -> str | None:
    """The owner whose tasks a list shows, or None for all tasks."""
    return caller.owner if caller.role is Role.USER else None


def check_reader(caller: Caller, task: Owned) -> None:
    """Let users read only their own tasks and those that their key created for others. Raises TaskNotFound."""
    if caller.role is Role.USER and caller.owner != task.user_id and caller.lineage != task.lineage:
        raise TaskNotFound


async def read_task(context: Context, caller: Caller, task_id: str, read: Read[T]) -> T:
    """Read a task that the caller may see. Raises TaskNotFound."""
    row = await context.database.single(lambda c: read(c, task_id))
    if row is None:
        raise TaskNotFound
    check_reader(caller, row)
    return row


def may_see_operation(caller: Caller, operation: Operation) -> bool:
    """Users see the operations that they have asked for."""
    return caller.role is not Role.USER or caller.owner == operation.owner or caller.lineage == operation.lineage


async def _hold(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> None:
    if caller.role is Role.NODE:
        row = await context.database.run(lambda c: node_queries.status_of(c, gpu_id))
        if row is not None:
            node_queries.check_own(row, caller.node_lineage)


HoldsGpu = Depends(_hold)
"""An early answer to a node that calls for another key's GPU, before the rest of the request is read.

Unknown GPUs pass, and may be another key's a moment later: the transaction that writes decides (`hold_own`).
"""
