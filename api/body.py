"""Reading what a caller sends, strictly (INVARIANTS, "Answers to bad input"): a refusal names the field, no value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.message import Message
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.errors import BadRequest, TooLarge, field_of
from infra import strict_json

M = TypeVar("M", bound=BaseModel)

MAX_BODY = 1024 * 1024
DETAILS = {"missing": "缺失", "enum": "不是允许的取值", "int_type": "必须是整数", "string_type": "必须是字符串"}


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A FastAPI dependency: the request's body as a `model`."""

    async def read(request: Request) -> Any:
        return parse(model, await read_json(request))

    return read


def documents(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is read by `json_body(model)`."""
    schema = model.model_json_schema()
    defs = schema.pop("$defs", {})
    example = schema.pop("example", {})
    content = {"schema": _inline(schema, defs), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object; raises BadRequest."""
    raw = await _read(request)
    _check_content_type(request)
    try:
        value = strict_json.loads(raw.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError among them
        raise BadRequest("body", "不是合法的JSON") from error
    if not isinstance(value, dict):
        raise BadRequest("body", "必须是JSON对象")
    for key, member in value.items():
        field = key if key.isidentifier() and len(key) <= 64 else "body"
        _check(key, "body")
        _check(member, field)
    return value


def parse(model: type[M], data: dict[str, Any]) -> M:
    """`data` as a `model`; raises BadRequest for the first field that does not fit."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        top = field_of([{"loc": first["loc"][:1]}])
        raise BadRequest(top, DETAILS.get(first["type"], "无效")) from None


def parse_json_text(text: str, field: str) -> Any:
    """The value of a JSON text that came in a string; raises BadRequest."""
    try:
        return strict_json.parse(text)
    except ValueError:
        raise BadRequest(field, "不是合法的JSON文本") from None


def clean(value: str, field: str) -> str:
    """`value` of a path or a query, unless it holds what neither Postgres nor UTF-8 can; raises BadRequest."""
    _check(value, field)
    return value


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 10 or int(length) > MAX_BODY):
        raise TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge
    return bytes(body)


def _check_content_type(request: Request) -> None:
    values = request.headers.getlist("content-type")
    header = Message()
    header["content-type"] = values[0] if len(values) == 1 else "text/plain"
    charset = header.get_content_charset("utf-8")
    if header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        raise BadRequest("Content-Type", "必须是 application/json")


def _check(value: Any, field: str, detail: str = "无效") -> None:
    try:
        strict_json.check(value, strict_json.storable)
    except ValueError:
        raise BadRequest(field, detail) from None


def _inline(schema: Any, defs: dict[str, Any]) -> Any:
    """References replaced by what they name: `#/$defs` would point at the root of the OpenAPI document."""
    if isinstance(schema, list):
        return [_inline(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = defs[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _inline(value, defs) for key, value in schema.items()}
