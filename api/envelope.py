"""The one shape of every answer (specification, 统一响应格式)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from starlette.responses import JSONResponse

T = TypeVar("T")

SUCCESS = 200


class Envelope(BaseModel, Generic[T]):
    """`code` equals the HTTP status, always."""

    code: int = SUCCESS
    message: str = "success"
    data: T


def ok(data: Any) -> dict[str, Any]:
    """A success with its data."""
    return {"code": SUCCESS, "message": "success", "data": data}


def failure(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error: HTTP status = `code`, `data` null, UTF-8."""
    return JSONResponse({"code": code, "message": message, "data": None}, status_code=code, headers=headers)
