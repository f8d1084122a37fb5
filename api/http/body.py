"""Strict reading of request bodies (INVARIANTS, "Answers to bad input"). A refusal names the field, never the value."""

from __future__ import annotations

import asyncio
from email.message import Message
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers

from api.http.errors import BadRequest, TooComplex, TooLarge, TooSlow, of_validation, shown
from infra.json import results, shape, strict_json
from infra.json.off_loop import off_loop

M = TypeVar("M", bound=BaseModel)

MAX_BODY = results.MAX_REPORT
MAX_VALUES = 20_000
MAX_DEPTH = 64
"""Limits of a body, checked before it is parsed. The JSON text in one of its fields counts as one value."""
BODY_S = 30.0
"""Seconds from the first read of a body to its last byte. A caller that sends slowly cannot hold a request for
longer."""


class JsonBody(Generic[M]):
    """A FastAPI dependency: the request's body as a `model`. `optional`: no body is an empty object."""

    def __init__(self, model: type[M], *, optional: bool = False) -> None:
        self.model = model
        self.optional = optional

    async def __call__(self, request: Request) -> M:
        return parse(self.model, await read_json(request, optional=self.optional))


async def read_json(request: Request, *, max_values: int = MAX_VALUES, optional: bool = False) -> dict[str, Any]:
    """Read the body as a JSON object. Raises BadRequest."""
    raw = await _read(request)
    if optional and not raw:
        return {}
    _check_content_type(request)
    return await off_loop.run(len(raw), lambda: _object(raw, max_values))


def _object(raw: bytes, max_values: int) -> dict[str, Any]:
    try:
        shape.check(raw, max_depth=MAX_DEPTH, max_values=max_values)
        value = strict_json.loads(raw.decode("utf-8"), strict_json.each_once, strict_json.int64_or_beyond)
    except shape.TooManyValues:
        raise TooComplex(f"含有超过 {max_values} 个JSON值") from None
    except shape.TooDeep:
        raise TooComplex(f"嵌套超过 {MAX_DEPTH} 层") from None
    except strict_json.RepeatedName:
        raise BadRequest("body", "含有重复的字段") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError among them
        raise BadRequest("body", "不是合法的JSON") from error
    if not isinstance(value, dict):
        raise BadRequest("body", "必须是JSON对象")
    for key, member in value.items():
        _check(key, "body")
        _check(member, shown(key, "body"))
    return value


def parse(model: type[M], data: dict[str, Any]) -> M:
    """`data` as a `model`. Raises BadRequest for a field that it must not have, or the first one that does not fit."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        raise of_validation(first, first["loc"]) from None


async def check_json_text(text: str, field: str) -> None:
    """Raise BadRequest unless a string holds JSON text."""
    try:
        await off_loop.run(len(text), lambda: strict_json.check_text(text))
    except strict_json.Unfit as error:
        raise BadRequest(field, error.chinese) from None


async def check_depth(text: str, field: str) -> None:
    """Raise BadRequest if a string holds JSON text that is nested too deeply; other text passes."""
    if text.count("[") + text.count("{") > strict_json.MAX_DEPTH:
        try:
            await off_loop.run(len(text), lambda: strict_json.check_text(text))
        except strict_json.TooDeep as error:
            raise BadRequest(field, error.chinese) from None
        except strict_json.Unfit:
            return


def check_declared(headers: Headers) -> None:
    """Raise TooLarge if Content-Length declares too much."""
    length = headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 10 or int(length) > MAX_BODY):
        raise TooLarge


async def _read(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await _bounded(request)
    except TimeoutError:
        raise TooSlow from None


async def _bounded(request: Request) -> bytes:
    check_declared(request.headers)
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


def _check(value: Any, field: str) -> None:
    try:
        strict_json.check(value, strict_json.storable)
    except ValueError:
        raise BadRequest(field, "无效") from None
