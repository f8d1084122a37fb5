"""Types that several schemas share, and how a schema carries the specification's sample."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.http.errors import refusal
from api.http.lists import Item
from api.schemas.words import ONE_LINE
from infra.db import clock
from infra.json.strict_json import INT64
from workflows.domain.limits import LAST_MS


def int64(number: int) -> int:
    """`number`, if a `bigint` holds it."""
    if number not in INT64:
        raise refusal("必须是64位整数")
    return number


INT64_SCHEMA: JsonDict = {"format": "int64", "minimum": INT64[0], "maximum": INT64[-1]}
"""The range that `int64` checks, for the OpenAPI document."""
Long = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64"})]
"""The specification's `long`."""


def unix_ms(at: Any) -> Any:
    """A row's time in Unix milliseconds; other values as they are."""
    return clock.unix_ms(at) if isinstance(at, datetime) else at


def _to_come(at_ms: int) -> int:
    if at_ms <= unix_ms(datetime.now(UTC)):
        raise refusal("必须是将来的时间（Unix 毫秒）")
    return at_ms


Moment = Annotated[Long, BeforeValidator(unix_ms)]
"""A row's time in Unix milliseconds."""
UnixMs = Annotated[int, Field(ge=1, le=LAST_MS, json_schema_extra={"format": "int64"})]
"""A time, sent in Unix milliseconds."""
RangeMs = Annotated[int, Field(ge=0, le=LAST_MS, json_schema_extra={"format": "int64"})]
"""An end of a range of time, in Unix milliseconds; 0: from the beginning."""
Deadline = Annotated[UnixMs, AfterValidator(_to_come)]
"""A time to come."""
Int64 = Annotated[int, AfterValidator(int64), Field(json_schema_extra=INT64_SCHEMA)]
Name = Annotated[str, Field(min_length=1, max_length=128), ONE_LINE]
GroupId = Annotated[Name, Field(pattern=r"^(\.{0,2}[^/.]|\.{3})[^/]*$")]
"""A name that fits a path: without a slash, and not `.` or `..`, which clients resolve."""
DISTINCT = AfterValidator(lambda values: list(dict.fromkeys(values)))
"""A list with each of its values once."""
GpuId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^(\.{0,2}[A-Za-z0-9_:-]|\.{3})[A-Za-z0-9._:-]*$")]
"""Like `GroupId`."""

_ABOUT = {"title", "description", "default", "examples"}
"""Keywords of a field's schema that are about the field, and not about its type."""


class Request(BaseModel):
    """Types are taken as sent, never converted; a field that the specification does not know is ignored.

    A field that has a default may be null, which means the default: many libraries write what is not set as null.
    """

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)

    @classmethod
    def nullable(cls) -> set[str | None]:
        """The names of the fields that may be null."""
        return {field.alias for field in cls.model_fields.values() if not field.is_required()}

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: Any) -> Any:
        if not isinstance(given, dict) or None not in given.values():
            return given
        nullable = cls.nullable()
        return {name: value for name, value in given.items() if value is not None or name not in nullable}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        found = handler.resolve_ref_schema(shown)
        nullable = cls.nullable()
        found["properties"] = {n: _or_null(f) if n in nullable else f for n, f in found["properties"].items()}
        return shown


def _or_null(field: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of a field that may also be null."""
    null = {"type": "null"}
    if null in field.get("anyOf", ()):
        return field
    about = {name: field[name] for name in _ABOUT & field.keys()}
    return {"anyOf": [{name: value for name, value in field.items() if name not in about}, null], **about}


class Exact(Request):
    """Like `Request`, but a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, given: Any) -> Any:
        """The fields with only the first unknown one: pydantic makes an error of each, all in one call."""
        if not isinstance(given, dict):
            return given
        known = {field.alias for field in cls.model_fields.values()}
        first = next((name for name in given if name not in known), None)
        return {name: value for name, value in given.items() if name in known or name == first}


class Record(BaseModel):
    """A row as it is answered. Fields have the names of its columns, and in answers those of the specification."""

    model_config = ConfigDict(from_attributes=True, alias_generator=to_camel)

    @classmethod
    def of(cls, row: object) -> Self:
        """The record of a row. A column that the row lacks has the field's default."""
        return cls.model_validate(row, by_alias=False, by_name=True)

    def item(self, **large: str | bytes | None) -> Item:
        """The record as an entry of a list, with its `large` fields as they are (`Item`)."""
        return Item(self.model_dump_json(by_alias=True, exclude={*large, "omitted"}).encode(), large)


def sample(**example: Any) -> ConfigDict:
    """The configuration of a model with its sample; see `sample_of`."""
    return ConfigDict(json_schema_extra={"examples": [example]})


def sample_of(model: type[BaseModel]) -> dict[str, Any]:
    """The sample with which a model was configured."""
    extra: Any = model.model_config["json_schema_extra"]
    found: dict[str, Any] = extra["examples"][0]
    return found
