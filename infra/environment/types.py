"""The types of settings: they check and convert the text of a variable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    SecretStr,
)
from pydantic_settings import NoDecode

from infra.environment import destinations, hosts
from infra.environment.destinations import Destination
from infra.environment.own_address import Network
from infra.json.strict_json import INT64, each_once, int64_or_beyond, loads
from workflows.domain.limits import MAX_RETRIES, MAX_TIMEOUT_MS

MAX_PORT = 65535
MAX_KEY = 512

Port = Annotated[int, Field(ge=1, le=MAX_PORT)]
Days = Annotated[float, Field(ge=0.001, le=36_500)]


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable characters without blanks around them")
    return value


def _plain_integer(value: object) -> object:
    """Refuse all but one spelling of an integer, so that no object has the same name twice."""
    if isinstance(value, str) and not re.fullmatch("0|-?[1-9][0-9]*", value):
        raise ValueError("must be an integer, without blanks, a plus sign or leading zeros")
    return value


def _json(value: str) -> Any:
    try:
        return loads(value, as_object=each_once, as_integer=int64_or_beyond)
    except json.JSONDecodeError:
        raise ValueError("must be JSON") from None


def fits_a_header(key: str) -> bool:
    """Whether a header can carry the key."""
    return re.fullmatch(rf"[!-~]{{1,{MAX_KEY}}}", key) is not None


def _key(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    if not fits_a_header(value.get_secret_value()):
        raise ValueError(f"must be 1 to {MAX_KEY} visible ASCII characters without blanks, as headers require")
    return value


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if re.search(r"[\s\x00-\x1f\x7f]", value) or parts.username is not None:
        raise ValueError("must be an address without blanks and without a user")
    if parts.scheme not in ("http", "https") or parts.port == 0 or re.search(r"[?#\\]", value):
        raise ValueError("must be an address like http://host:port")
    hosts.checked(parts.hostname or "")
    return value


def _networks(text: str) -> tuple[Network, ...]:
    """The networks; an empty text has none."""
    return tuple(ip_network(part.strip()) for part in text.split(",")) if text.strip() else ()


def _delays(text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", part) for part in parts):
        raise ValueError("must be seconds, comma separated")
    return tuple(map(float, parts))


def _origins(text: str) -> tuple[str, ...]:
    """The origins as browsers write them; an empty text has none."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if "*" in parts and len(parts) > 1:
        raise ValueError("must be only *, or origins")
    if not all(part == "*" or _is_origin(part) for part in parts):
        raise ValueError("must be * or origins like https://host:port, comma separated: no path, no slash at the end")
    return tuple(part.lower() for part in parts)


def _is_origin(text: str) -> bool:
    """Whether a browser could send it: a scheme, a host, and a port unless it is the scheme's own (RFC 6454)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", parts.hostname or ""):
        return False
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    shown = "" if port is None else f":{port}"
    return port != {"http": 80, "https": 443}[parts.scheme] and text.lower() == f"{parts.scheme}://{host}{shown}"


def _trace_url(text: str) -> str:
    """The address of a trace's page, with `{trace_id}` where its id goes. Raises ValueError."""
    if not text.startswith(("http://", "https://")) or text.count("{trace_id}") != 1:
        raise ValueError("must be an address like http://host:port/trace/{trace_id}")
    return text


def _port_ranges(text: str) -> tuple[range, ...]:
    """The ranges of `8000-8999,9100`. Raises ValueError."""
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?\s*", part)
        ports = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not ports or ports[0] < 1 or ports[-1] > MAX_PORT:
            raise ValueError(f"{part.strip()!r} is not a port or a range of ports from 1 to {MAX_PORT}")
        ranges.append(ports)
    return tuple(ranges)


def _span(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}"


def if_set(check: Callable[[str], str]) -> AfterValidator:
    """`check` for a value that is neither empty nor None; those are None."""
    return AfterValidator(lambda value: check(value) if value else None)


def _from_text(parse: Callable[[str], object]) -> BeforeValidator:
    """The value of a variable's text; other sources give the value itself."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _as_text(write: Callable[[Any], object] = str) -> PlainSerializer:
    """The text of a comma-separated variable that gives the same values, for the programs that we start."""
    return PlainSerializer(lambda values: ",".join(str(write(value)) for value in values), when_used="json")


Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
TaskType = Annotated[int, Field(ge=INT64[0], le=INT64[-1]), BeforeValidator(_plain_integer)]
FromJson = _from_text(_json)
AnyCase = _from_text(str.upper)
Host = Annotated[str, AfterValidator(lambda value: hosts.checked(value) if value else value)]
Key = Annotated[SecretStr | None, AfterValidator(_key)]
TraceUrl = Annotated[str | None, if_set(_trace_url)]
PublicUrl = Annotated[str | None, if_set(_public_url)]
Networks = Annotated[tuple[Network, ...], NoDecode, _from_text(_networks), _as_text()]
Delays = Annotated[tuple[float, ...], NoDecode, _from_text(_delays), _as_text(lambda seconds: f"{seconds:g}")]
Ports = Annotated[tuple[InstanceOf[range], ...], NoDecode, _from_text(_port_ranges), _as_text(_span)]
Destinations = Annotated[
    tuple[InstanceOf[Destination], ...],
    NoDecode,
    _from_text(destinations.parse),
    PlainSerializer(destinations.text, when_used="json"),
]
Origins = Annotated[tuple[str, ...], NoDecode, _from_text(_origins), _as_text()]
Weight = Annotated[float, Field(ge=0.01, le=100)]


class TaskTypeSettings(BaseModel):
    """Name and limits of one task type. Fields that are left out have the general setting."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=128), AfterValidator(_printable)] = ""
    timeout: int | None = Field(default=None, gt=0, le=MAX_TIMEOUT_MS, description="ms per attempt")
    max_retries: int | None = Field(default=None, ge=0, le=MAX_RETRIES, alias="maxRetries")
