"""The roles that may call each endpoint (INVARIANTS, "Who may call what").

They are checked before anything of a request is read except its key and its path.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute

from api.http.errors import Forbidden
from api.middleware.authentication import CallerOf
from workflows.domain.role import Role

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
