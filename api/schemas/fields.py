"""Types that several schemas share, and how a schema carries the specification's sample."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from api.http.errors import refusal
from api.schemas.words import ONE_LINE
from infra.strict_json import INT64


def int64(number: int) -> int:
    """`number`, if a `bigint` holds it."""
    if number not in INT64:
        raise refusal("必须是64位整数")
    return number


INT64_SCHEMA: JsonDict = {"format": "int64", "minimum": INT64[0], "maximum": INT64[-1]}
"""The range that `int64` checks, for the OpenAPI document."""
Long = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64"})]
"""The specification's `long`."""
Int64 = Annotated[int, AfterValidator(int64), Field(json_schema_extra=INT64_SCHEMA)]
Name = Annotated[str, Field(min_length=1, max_length=128), ONE_LINE]
GpuId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]


def sample(**example: Any) -> ConfigDict:
    """The configuration of a model with its sample; see `sample_of`."""
    return ConfigDict(json_schema_extra={"examples": [example]})


def sample_of(model: type[BaseModel]) -> dict[str, Any]:
    """The sample with which a model was configured."""
    extra: Any = model.model_config["json_schema_extra"]
    found: dict[str, Any] = extra["examples"][0]
    return found
