"""Access (INVARIANTS, "Who may call what"): the roles that may call each endpoint, and what a caller sees there.

Roles are checked before anything of a request is read except its key and its path. Rules that depend on rows, such as
who owns a task or a GPU, are in this module too; they are applied once the row has been read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from api.dependencies import Context, ContextOf
from api.http.errors import BadRequest, Forbidden
from api.middleware.authentication import CallerOf
from api.schemas.params import NodeId
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes.queries import NodeStatus
from infra.db.ops.api_keys import Caller
from infra.db.tasks.operations import OperationRow
from workflows.domain.errors import BeyondGrants, GpuOfAnotherKey, TaskNotFound
from workflows.domain.priority import DEFAULT_PRIORITY
from workflows.domain.role import Role


class Owned(Protocol):
    """The owner of a task."""

    @property
    def user_id(self) -> str: ...
    @property
    def lineage(self) -> str | None: ...


T = TypeVar("T", bound=Owned)
Read = Callable[[Connection, str], Awaitable[T | None]]

ADMIN = frozenset({Role.ADMIN})
OPERATORS = ADMIN | {Role.OPERATOR}
NODES = ADMIN | {Role.NODE}
USERS = ADMIN | {Role.USER}

ALLOWED: dict[str, frozenset[Role]] = {
    "GET /monitoring/overview": OPERATORS,
    "GET /monitoring/health": OPERATORS | USERS,
    "GET /monitoring/health/{component}": OPERATORS | USERS,
    "GET /monitoring/metrics": OPERATORS,
    "GET /monitoring/metrics/{key}": OPERATORS,
    "POST /monitoring/check": OPERATORS,
    "POST /monitoring/health/check": OPERATORS,
    "GET /gpus": OPERATORS | NODES,  # a node sees its own
    "GET /gpus/by-task-type/{taskType}": OPERATORS | NODES,
    "GET /gpus/{gpuId}": OPERATORS | NODES,
    "POST /gpus/register": NODES,  # a node its own, here and below
    "POST /gpus/{gpuId}/heartbeat": NODES,
    "POST /gpus/{gpuId}/fault": OPERATORS | NODES,
    "POST /gpus/{gpuId}/recover": OPERATORS,
    "POST /gpus/{gpuId}/drain": OPERATORS | NODES,
    "POST /gpus/{gpuId}/undrain": OPERATORS,
    "DELETE /gpus/{gpuId}": NODES,
    "GET /tasks": OPERATORS | USERS,  # a user sees their own
    "GET /tasks/{taskId}": OPERATORS | USERS,
    "GET /tasks/{taskId}/progress": OPERATORS | USERS,
    "GET /tasks/{taskId}/result": OPERATORS | USERS,
    "GET /tasks/{taskId}/events": OPERATORS | USERS,
    "POST /tasks": USERS,
    "POST /tasks/batch": USERS,
    "POST /tasks/{taskId}/cancel": OPERATORS | USERS,  # a user their own
    "POST /tasks/{taskId}/retry": OPERATORS | USERS,
    "PATCH /tasks/{taskId}": OPERATORS | USERS,
    "GET /groups/{groupId}": OPERATORS | USERS,  # a user the tasks of their own
    "POST /tasks/cancel": OPERATORS | USERS,  # a user their own, as the list shows them
    "POST /tasks/retry": OPERATORS | USERS,
    "GET /operations/{operationId}": OPERATORS | USERS,  # a user their own
    "POST /tasks/{taskId}/status": NODES,  # a node that holds the attempt
    "POST /tasks/{taskId}/result": NODES,
    "GET /monitoring/alerts": OPERATORS,
    "POST /monitoring/alerts/{alertId}/acknowledge": OPERATORS,
    "GET /monitoring/alerts/stats": OPERATORS,
    "GET /cluster/status": OPERATORS,
    "GET /cluster/instances": OPERATORS,
    "GET /audit": ADMIN,
    "GET /keys": ADMIN,
    "GET /events": OPERATORS | USERS,  # a user those of their own tasks, here and in the streams
    "GET /stream": OPERATORS | USERS,
    "GET /tasks/{taskId}/stream": OPERATORS | USERS,
    "POST /webhooks": OPERATORS | USERS,  # a user their own, here and below
    "GET /webhooks": OPERATORS | USERS,
    "POST /webhooks/secret": OPERATORS | USERS,
    "DELETE /webhooks/{webhookId}": OPERATORS | USERS,
    "POST /webhooks/{webhookId}/rotate": OPERATORS | USERS,
    "POST /webhooks/{webhookId}/test": OPERATORS | USERS,
    "GET /webhooks/{webhookId}/deliveries": OPERATORS | USERS,
    "POST /webhooks/{webhookId}/replay": OPERATORS | USERS,
    "POST /deliveries/{deliveryId}/replay": OPERATORS | USERS,
}
"""The roles that may call each endpoint, by the route's own name."""


async def check_role(request: Request, caller: CallerOf) -> None:
    """Check the role, before every other dependency of a route. Raises Forbidden."""
    if caller.role not in ALLOWED[f"{request.method} {request.scope['route'].path}"]:
        raise Forbidden


async def check_operator(caller: CallerOf) -> None:
    """`check_role` of what only operators may call, outside of the paths of `ALLOWED`. Raises Forbidden."""
    if caller.role not in OPERATORS:
        raise Forbidden


def check_complete(routers: Iterable[APIRouter]) -> None:
    """Raise LookupError unless `ALLOWED` lists exactly the endpoints of the routers."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    there = {f"{method} {route.path}" for route in routes for method in route.methods or ()}
    if there != set(ALLOWED):
        raise LookupError(f"endpoints without roles, or roles without an endpoint: {there ^ set(ALLOWED)}")


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


def may_see_operation(caller: Caller, operation: OperationRow) -> bool:
    """Users see the operations that they have asked for."""
    return caller.role is not Role.USER or caller.owner == operation.owner or caller.lineage == operation.lineage


def check_creator(caller: Caller, user_id: str, where: str = "") -> None:
    """Let users create only tasks of their own, unless the key may act for others. Raises Forbidden.

    `where`, here and below, is what comes before a field's name in the refusal.
    """
    if caller.role is Role.USER and caller.owner != user_id and not caller.acts_for_others:
        raise Forbidden(f"权限不足: {where}userId 必须是密钥的所有者")


def check_app(caller: Caller, app: str, where: str = "") -> None:
    """Check that the key was granted the app. Raises BeyondGrants."""
    if not caller.grants.allow_app(app):
        raise BeyondGrants(f"{where}app 不在密钥的授权范围内")


def priority_for(caller: Caller, asked: int | None, where: str = "") -> int:
    """The priority of a new task; `asked` is None if the field is missing. Raises BadRequest."""
    priority = caller.grants.priority(asked, DEFAULT_PRIORITY)
    if priority is None:
        raise BadRequest(f"{where}priority", "超出密钥允许的最大值")
    return priority


def lineage_of_node(caller: Caller) -> str | None:
    """The lineage that a GPU must have for a node's caller, or None if any GPU will do."""
    return caller.lineage if caller.role is Role.NODE else None


def check_holder(caller: Caller, gpu: NodeStatus) -> None:
    """Let a node act only for its own GPUs. Raises GpuOfAnotherKey."""
    if caller.role is Role.NODE and gpu.lineage != caller.lineage:
        raise GpuOfAnotherKey


async def _hold(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> None:
    if caller.role is Role.NODE:
        row = await context.database.run(lambda c: node_queries.status_of(c, gpu_id))
        if row is not None:
            check_holder(caller, row)


HoldsGpu = Depends(_hold)
"""`check_holder` for the GPU in the path, before the rest of the request is read. Unknown GPUs pass."""
