"""Errors by the API's code, each with the API's message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_orchestrator_client.models import Task


class OrchestratorError(Exception):
    """Everything that this package raises."""


class Unreachable(OrchestratorError):
    """There was no answer, in about a minute and three tries at least."""


class BadAnswer(OrchestratorError):
    """The answer is not the API's: perhaps a proxy's, or the address is wrong."""


class ApiError(OrchestratorError):
    """The API refused the call; `code` is its status, `message` its own words."""

    def __init__(self, code: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    """400: the call, or the state of what it is about, does not allow it."""


class Unauthorized(ApiError):
    """401: the key is missing, unknown, expired or revoked."""


class Forbidden(ApiError):
    """403: the key may not do this."""


class NotFound(ApiError):
    """404: there is no such thing, or it belongs to another user."""


class TooManyRequests(ApiError):
    """429: too many calls, too many waiting tasks, or a wait longer than `max_wait_s`."""


class Unavailable(ApiError):
    """502, 503, 504: a service that the API needs is away; nothing was lost."""


class ServerError(ApiError):
    """500, or another code."""


class TaskEnded(OrchestratorError):
    """The task has ended without a result; `task` says how."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"{task.task_id} ended {task.end_reason or task.status}: {task.error_message or 'no message'}")
        self.task = task


class TaskFailed(TaskEnded):
    """The task ended FAILED: its attempts failed, or it was cancelled."""


class TaskTimedOut(TaskEnded):
    """The task ended TIMEOUT: its attempts took too long, it expired, or its deadline passed."""


class NotYet(OrchestratorError):
    """The task had not ended after the time that the caller gave it; it goes on unless it was to be cancelled."""

    def __init__(self, task_id: str, timeout_s: float) -> None:
        super().__init__(f"{task_id} has not ended within {timeout_s:g} s")
        self.task_id = task_id


class BadSignature(OrchestratorError):
    """The webhook does not come from the holder of the secret, or it is too old."""


BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
