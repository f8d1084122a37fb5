"""Client of gpu-orchestrator: submit GPU tasks, watch them, take their results.

A name is imported when it is used: ordinary code waits for no asyncio, the command line for no httpx and no pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_orchestrator_client.aio import AsyncClient
    from gpu_orchestrator_client.errors import (
        ApiError,
        BadAnswer,
        BadRequest,
        BadSignature,
        Forbidden,
        NotFound,
        NotYet,
        OrchestratorError,
        ServerError,
        TaskEnded,
        TaskFailed,
        TaskTimedOut,
        TooManyRequests,
        Unauthorized,
        Unavailable,
        Unreachable,
    )
    from gpu_orchestrator_client.models import (
        Drain,
        Event,
        Group,
        Node,
        Operation,
        Progress,
        Status,
        Submitted,
        Task,
    )
    from gpu_orchestrator_client.new_task import NewTask, TaskOptions
    from gpu_orchestrator_client.sync import Client
    from gpu_orchestrator_client.updates import Attempt, Change, End, Percent, Place, Snapshot, Update
    from gpu_orchestrator_client.webhooks import verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "Attempt",
    "BadAnswer",
    "BadRequest",
    "BadSignature",
    "Change",
    "Client",
    "Drain",
    "End",
    "Event",
    "Forbidden",
    "Group",
    "NewTask",
    "Node",
    "NotFound",
    "NotYet",
    "Operation",
    "OrchestratorError",
    "Percent",
    "Place",
    "Progress",
    "ServerError",
    "Snapshot",
    "Status",
    "Submitted",
    "Task",
    "TaskEnded",
    "TaskFailed",
    "TaskOptions",
    "TaskTimedOut",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Update",
    "verify_webhook",
]

_MODULES = ("errors", "models", "updates", "new_task", "webhooks", "sync", "aio")
"""The modules that have these names, in the order in which they import each other."""


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        found = vars(import_module(f"{__name__}.{module}"))
        if name in found:
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
