"""What a caller wrote that is kept, shown or handed on: everything but payloads, results and messages is one line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from api.errors import BadRequest, refusal
from infra import strict_json

CONTROLS = "含有控制字符"


def clean(value: str, field: str) -> str:
    """`value` of a path, unless it holds control characters; raises BadRequest."""
    if not strict_json.printable(value):
        raise BadRequest(field, CONTROLS)
    return value


def printable(value: Any) -> Any:
    """`value`, unless a text or a name within it holds control characters; a validator."""
    try:
        strict_json.check(value, strict_json.printable)
    except ValueError:
        raise refusal(CONTROLS) from None
    return value


def printable_header(value: str) -> str:
    """`printable` of a header, which is read as UTF-8 where it can be, and else as Latin-1."""
    try:
        printable(value.encode("latin-1").decode())
    except UnicodeDecodeError:
        printable(value)
    return value


ONE_LINE = AfterValidator(printable)
"""Goes behind the bounds of a field: before them it would hide their messages and their part in the document."""
Line = Annotated[str, ONE_LINE]
HeaderLine = Annotated[str, AfterValidator(printable_header)]
