"""The one shape of every answer (specification, 统一响应格式)."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

T = TypeVar("T")

JSON = "application/json"
SUCCESS: Literal[200] = 200


class Envelope(BaseModel, Generic[T]):
    """A success; `code` equals the HTTP status, always."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    code: Literal[200] = SUCCESS
    message: Literal["success"] = "success"
    data: T


class Failure(BaseModel):
    """An error; `code` equals the HTTP status, always, and `message` names the field that is wrong."""

    code: int
    message: str
    data: None


def ok(data: Any) -> dict[str, Any]:
    """A success with its data."""
    return {"code": SUCCESS, "message": "success", "data": data}


def says(text: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route whose `data` is always this text."""
    return {SUCCESS: {"content": {JSON: {"example": ok(text)}}}}


def failure(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error: HTTP status = `code`, `data` null, UTF-8."""
    return JSONResponse({"code": code, "message": message, "data": None}, status_code=code, headers=headers)
