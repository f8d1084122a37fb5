"""Every error and its HTTP status, decided here (specification, 错误码说明)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from api.http import fault_places
from api.http.envelope import failure
from infra.db.session import is_unavailable
from workflows.domain import errors as domain

log = logging.getLogger(__name__)

INTERNAL = "操作失败: 服务器内部错误"
MESSAGES = {400: "请求参数错误", 401: "认证失败", 403: "权限不足", 404: "资源不存在", 500: INTERNAL}
TOO_OFTEN = "请求过于频繁，请稍后重试"
UNAVAILABLE = "服务暂不可用，请稍后重试"
WAITING_RETRY_S = 5
"""Seconds until a caller with too many waiting tasks or bulk operations may try again: by then some may be through."""

CODES: dict[type[domain.DomainError], int] = {
    domain.TaskNotFound: 404,
    domain.GroupNotFound: 404,
    domain.OperationNotFound: 404,
    domain.GpuNotFound: 404,
    domain.AlertNotFound: 404,
    domain.WebhookNotFound: 404,
    domain.DeliveryNotFound: 404,
    domain.NotTheHolder: 403,
    domain.GpuOfAnotherKey: 403,
    domain.BeyondKeyLimits: 403,
    domain.ForbiddenReceiver: 403,
    domain.HttpsRequired: 400,
    domain.IllegalTransition: 400,
    domain.NotInThisState: 400,
    domain.LateReport: 400,
    domain.ConflictingResult: 400,
    domain.ForbiddenAddress: 400,
    domain.IdempotencyConflict: 400,
    domain.WebhookDisabled: 400,
    domain.TooManyWebhooks: 400,
    domain.TooManySecrets: 400,
    domain.TooManyDeliveries: 400,
    domain.DeadlinePassed: 400,
    domain.TooManyWaiting: 429,
    domain.TooManyOperations: 429,
    domain.WaitTooLong: 429,
}
"""HTTP status of each domain error. A class that is missing here is a bug and answers 500."""


REFUSED = "refused"
DETAILS = {
    "missing": "缺失",
    "enum": "不是允许的取值",
    "int_type": "必须是整数",
    "model_type": "必须是JSON对象",
    "bool_type": "必须是布尔值",
    "string_type": "必须是字符串",
    "string_too_short": "不能为空",
    "string_too_long": "过长",
    "too_long": "元素过多",
    "too_short": "元素过少",
    "string_pattern_mismatch": "含有不允许的字符",
    "greater_than": "超出范围",
    "greater_than_equal": "超出范围",
    "less_than_equal": "超出范围",
    "extra_forbidden": "是未知或不可修改的字段",
}
"""The text for a refused field, by pydantic's error type; 无效 for all other types."""


class ApiError(Exception):
    """An answer other than success, raised anywhere below the routes."""

    def __init__(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.code = code
        self.message = message
        self.headers = headers
        super().__init__(message)


class BadRequest(ApiError):
    """400. Names the field and what is wrong with it, never the value."""

    body = b""
    """The part of the refused body that was read; empty if something else is refused."""

    def __init__(self, field: str, detail: str, headers: dict[str, str] | None = None) -> None:
        self.field = field
        self.detail = detail
        super().__init__(400, f"请求参数错误: {field} {detail}", headers)


class TooLarge(BadRequest):
    """400, since the specification has no 413."""

    def __init__(self, most: int) -> None:
        super().__init__(
            "body", f"超过 {most // (1024 * 1024)} MiB" if most >= 1024 * 1024 else f"超过 {most // 1024} KiB"
        )


class TooComplex(BadRequest):
    """400: a body has too many values, or levels."""

    def __init__(self, detail: str) -> None:
        super().__init__("body", detail)


class TooSlow(BadRequest):
    """400: the body did not arrive in time. The rest is not read."""

    def __init__(self) -> None:
        super().__init__("body", "接收超时", {"Connection": "close"})


class Unauthorized(ApiError):
    """401."""

    def __init__(self) -> None:
        super().__init__(401, MESSAGES[401], {"WWW-Authenticate": "Bearer"})


class Forbidden(ApiError):
    """403."""

    def __init__(self, message: str = MESSAGES[403]) -> None:
        super().__init__(403, message)


class NotFound(ApiError):
    """404. Also for what exists but belongs to another user."""

    def __init__(self) -> None:
        super().__init__(404, MESSAGES[404])


class TooManyRequests(ApiError):
    """429; `retry_after` in whole seconds."""

    def __init__(self, retry_after: int = 1, message: str = TOO_OFTEN) -> None:
        super().__init__(429, message, {"Retry-After": str(max(1, retry_after))})


class Unavailable(ApiError):
    """503: a dependency is down and nothing was lost."""

    def __init__(self) -> None:
        super().__init__(503, UNAVAILABLE, {"Retry-After": "1"})


def install(app: FastAPI) -> None:
    """Register the handlers for expected errors. `api.middleware.error_shield` answers everything else."""
    for error in (ApiError, domain.DomainError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(error, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    answer = answer_to(error)
    if answer.status_code == 403:
        _log_refusal(request)
    return answer


def _log_refusal(request: Request) -> None:
    caller, route = request.state.caller, request.scope["route"].path  # after the authentication, and within a route
    log.warning("refused: %s (%s %s) may not %s %s", caller.key_id, caller.role, caller.owner, request.method, route)


def answer_to(error: Exception) -> JSONResponse:
    """The answer to any exception. A bug is logged, and its answer shows nothing of it."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return answer_to(error.exceptions[0])
    known = _known(error)
    if known is None:
        log.error("unhandled error", exc_info=error)
        known = ApiError(500, INTERNAL)
    return failure(known.code, known.message, known.headers)


def _known(error: Exception) -> ApiError | None:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, domain.DomainError):
        return _of_domain(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return of_validation(first, first["loc"][1:])  # the location begins with query, path or header
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, ClientDisconnect):
        return ApiError(400, MESSAGES[400])  # the client is gone
    return Unavailable() if is_unavailable(error) else None


def _of_domain(error: domain.DomainError) -> ApiError | None:
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)
    if code == 429:
        retry_s = error.retry_after_s if isinstance(error, domain.WaitTooLong) else WAITING_RETRY_S
        return TooManyRequests(retry_s, str(error))
    return None if code is None else ApiError(code, str(error))


def _of_http(error: HTTPException) -> ApiError:
    """Starlette's own errors: a wrong method answers as an unknown path, and a status that the specification lacks
    as 400."""
    code = 404 if error.status_code == 405 else error.status_code
    if code not in MESSAGES:
        code = 400 if code < 500 else 500
    headers = None if error.status_code == 405 or error.headers is None else dict(error.headers)
    return ApiError(code, MESSAGES[code], headers)


def refusal(detail: str) -> PydanticCustomError:
    """Raised by a validator to state in our own words what is wrong with its field."""
    return PydanticCustomError(REFUSED, detail)


def of_validation(error: Mapping[str, Any], where: Sequence[Any]) -> BadRequest:
    """The refusal for a validation error; see `fault_places.of_location`."""
    field = fault_places.of_location(where, names_entry=error["type"] == "model_type")
    if error["type"] == "extra_forbidden" and len(where) == 1:
        field = fault_places.shown(field, "body")
    detail = error["msg"] if error["type"] == REFUSED else DETAILS.get(error["type"], "无效")
    return BadRequest(field, detail)
