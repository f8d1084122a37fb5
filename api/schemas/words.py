"""A caller's texts: without control characters, except payloads, results and messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from api.http.errors import refusal
from infra.json import strict_json


def printable(value: Any) -> Any:
    """A validator: `value`, unless a text or a name within it holds control characters."""
    try:
        strict_json.check(value, strict_json.printable)
    except ValueError:
        raise refusal("含有控制字符") from None
    return value


def printable_header(value: str) -> str:
    """`printable` of a header, which is read as UTF-8 if possible, otherwise as Latin-1."""
    try:
        printable(value.encode("latin-1").decode())
    except UnicodeDecodeError:
        printable(value)
    return value


PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""`printable` as the document shows it."""


@dataclass(frozen=True)
class OneLine:
    """`check` as a validator with its pattern in the document.

    It comes after the bounds of a field: before them it would hide their messages, and their part in the document.
    """

    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        return shown | ({"pattern": PATTERN} if shown.get("type") == "string" else {})


ONE_LINE = OneLine(printable)
ONE_LINE_HEADER = OneLine(printable_header)
Line = Annotated[str, ONE_LINE]
FilterText = Annotated[str, Field(min_length=1), ONE_LINE]
"""A text that a list is filtered by: an empty one would find nothing."""
HeaderLine = Annotated[str, ONE_LINE_HEADER]
