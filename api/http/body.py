"""Strict reading of request bodies (INVARIANTS, "Answers to bad input"). A refusal names the field, never the value."""

from __future__ import annotations

import asyncio
import codecs
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers

from api.http import fault_places
from api.http.errors import BadRequest, TooComplex, TooLarge, TooSlow, of_validation
from infra.json import results, shape, strict_json
from infra.json.off_loop import off_loop

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

MAX_BODY = results.MAX_REPORT
MAX_BATCH = 8 * 1024 * 1024
MAX_DEPTH = 64
BODY_S = 30.0
"""Seconds from the first read of a body to its last byte. A caller that sends slowly cannot hold a request for
longer."""
MAX_CONTENT_TYPE = 200
"""Characters of a Content-Type that is read."""
MAX_STRING = 3 * 512 * 1024
"""Bytes of one string as it is written: a payload of 256 KiB that is all escapes. Reading one holds the interpreter."""


@dataclass(frozen=True)
class Size:
    """Limits of a body, checked before it is parsed. The JSON text in one of its fields counts as one value."""

    max_bytes: int
    max_values: int


_REPEATED = float("nan")
"""The value of a name that an object has twice: it is no value that JSON has."""

USUAL = Size(MAX_BODY, 20_000)
BATCH = Size(MAX_BATCH, 50_000)


class JsonBody(Generic[M]):
    """A FastAPI dependency: the request's body as a `model`. `optional`: no body is an empty object."""

    def __init__(self, model: type[M], *, optional: bool = False, size: Size = USUAL) -> None:
        self.model = model
        self.optional = optional
        self.size = size

    async def __call__(self, request: Request) -> M:
        return await read_json(request, partial(parse, self.model), optional=self.optional, size=self.size)


async def read_json(
    request: Request, take: Callable[[dict[str, Any]], T], *, optional: bool = False, size: Size = USUAL
) -> T:
    """The value that `take` builds from the body, which must be a JSON object. Raises BadRequest."""
    raw = await read_bytes(request, size.max_bytes)
    if optional and not raw:
        return take({})
    _check_content_type(request)
    try:
        return await off_loop.run(len(raw), lambda: take(_object(raw, size.max_values)))
    except BadRequest as refused:
        refused.body = raw
        raise


def _object(raw: bytes, max_values: int) -> dict[str, Any]:
    try:
        shape.check(raw, max_depth=MAX_DEPTH, max_values=max_values)
        if len(raw) > MAX_BODY:
            shape.check_strings(raw, MAX_STRING)
        value = strict_json.loads(_decoded(raw), _marked, strict_json.int64_or_beyond)
    except shape.TooManyValues:
        raise TooComplex(f"含有超过 {max_values} 个JSON值") from None
    except shape.TooDeep:
        raise TooComplex(f"嵌套超过 {MAX_DEPTH} 层") from None
    except shape.TooLong:
        raise TooComplex("含有过长的字符串") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError among them
        raise BadRequest("body", "不是合法的JSON") from error
    if not isinstance(value, dict):
        raise BadRequest("body", "必须是JSON对象")
    _check(value)
    return value


def _decoded(raw: bytes) -> str:
    """The text, decoded in pieces: none holds the interpreter for long."""
    pieces = (raw[start : start + shape.PIECE] for start in range(0, len(raw), shape.PIECE))
    return "".join(codecs.iterdecode(pieces, "utf-8"))


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
    if _may_be_deep(text):
        await off_loop.run(len(text), lambda: check_depth_here(text, field))


def check_depth_here(text: str, field: str) -> None:
    """`check_depth` in a thread."""
    if _may_be_deep(text):
        try:
            strict_json.check_text(text)
        except strict_json.TooDeep as error:
            raise BadRequest(field, error.chinese) from None
        except strict_json.Unfit:
            return


def _may_be_deep(text: str) -> bool:
    return text.count("[") + text.count("{") > strict_json.MAX_DEPTH


def declared(headers: Headers) -> int:
    """The bytes that Content-Length declares, 0 without one; more than any body has for more than ten digits."""
    length = headers.get("content-length", "")
    return 0 if not length.isdecimal() else int(length) if len(length) <= 10 else 10**10


def check_declared(headers: Headers, most: int) -> None:
    """Raise TooLarge if Content-Length declares more than `most` bytes."""
    if declared(headers) > most:
        raise TooLarge(most)


async def read_bytes(request: Request, most: int, within_s: float | None = None) -> bytes:
    """The body, which comes within `within_s`, or BODY_S. Raises TooLarge, TooSlow."""
    try:
        async with asyncio.timeout(BODY_S if within_s is None else within_s):
            return await _bounded(request, most)
    except TimeoutError:
        raise TooSlow from None


async def read_start(request: Request, most: int) -> bytes:
    """A body that nobody has begun to read, or its first chunks that exceed `most` bytes. Raises TooSlow."""
    try:
        async with asyncio.timeout(BODY_S):
            return await _read(request, most)
    except TimeoutError:
        raise TooSlow from None


async def _bounded(request: Request, most: int) -> bytes:
    check_declared(request.headers, most)
    body = await _read(request, most)
    if len(body) > most:
        refused = TooLarge(most)
        refused.body = body
        raise refused
    return body


async def _read(request: Request, most: int) -> bytes:
    """The body, or its first chunks that exceed `most` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            break
    return bytes(body)


def _check_content_type(request: Request) -> None:
    values = request.headers.getlist("content-type")
    if len(values) != 1 or len(values[0]) > MAX_CONTENT_TYPE or not _is_json(values[0]):
        raise BadRequest("Content-Type", "必须是 application/json")


def _is_json(content_type: str) -> bool:
    """Whether it names JSON, in UTF-8 if it names an encoding."""
    kind, *parameters = content_type.lower().split(";")
    pairs = [one.partition("=") for one in parameters]
    named = {value.strip().strip('"') for name, _, value in pairs if name.strip() == "charset"}
    return kind.strip() == "application/json" and named <= {"utf-8", "utf8"}


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its pairs; a name that comes twice is marked as repeated."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {name: _REPEATED for name, times in Counter(name for name, _ in pairs).items() if times > 1}
    return found


def _check(body: dict[str, Any]) -> None:
    """Raise BadRequest for a value or name that cannot be stored, and for a name that an object has twice."""
    if _holds(strict_json.storable, body):
        return
    for fits, detail in ((_comes_once, "存在重复"), (strict_json.storable, "无效")):
        if not _holds(fits, body):
            raise BadRequest(fault_places.first(body, partial(_holds, fits)), detail)


def _comes_once(part: Any) -> bool:
    return part is not _REPEATED


def _holds(fits: Callable[[Any], bool], value: Any) -> bool:
    """Whether all that is within `value` fits."""
    try:
        strict_json.check(value, fits)
    except ValueError:
        return False
    return True
