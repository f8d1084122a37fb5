"""The settings of every program, read from the environment once, in this one place.

Each field is the environment variable `ORCHESTRATOR_` + its name in capitals. An address left unset means that the
piece behind it is embedded: the supervisor starts it and passes its address to the programs it runs. Programs started
by hand need all three addresses. A variable that is set and empty counts as unset.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra import hosts, service_urls, variables
from infra.bad_settings import BadSettings
from infra.resilience.token_bucket import ByteRate, Rate, RoleRate
from infra.secrecy import has_default_password, is_placeholder
from infra.strict_json import INT64, each_once, int64_or_beyond, loads
from infra.variables import ENV_PREFIX as ENV_PREFIX
from workflows.domain.limits import MAX_RETRIES, MAX_TIMEOUT_MS
from workflows.domain.queueing import DEFAULT_WEIGHT
from workflows.domain.role import Role

log = logging.getLogger(__name__)

MAX_PORT = 65535
MAX_KEY = 512
DAY_S, YEAR_S = 86_400, 31_536_000

MIB = 1024 * 1024
RATES = {
    Role.USER: RoleRate(rate=50, burst=200, bytes=4 * MIB, bytesBurst=32 * MIB),
    Role.NODE: RoleRate(rate=200, burst=400, bytes=16 * MIB, bytesBurst=128 * MIB),
}
"""Rates of the roles that RATE_LIMITS leaves out. Roles that are missing here too have no limit."""

Network = IPv4Network | IPv6Network
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable characters without blanks around them")
    return value


def _task_type(value: int) -> int:
    if value not in INT64:
        raise ValueError("a task type has at most 64 bits")
    return value


def _plain_integer(value: object) -> object:
    """Refuse all but one spelling of an integer, so that no object has the same name twice."""
    if isinstance(value, str) and not re.fullmatch("0|-?[1-9][0-9]*", value):
        raise ValueError("must be an integer, without blanks, a plus sign or leading zeros")
    return value


def _from_json(value: object) -> object:
    """The value of a variable's JSON; other sources give the value itself."""
    if not isinstance(value, str):
        return value
    try:
        return loads(value, as_object=each_once, as_integer=int64_or_beyond)
    except json.JSONDecodeError:
        raise ValueError("must be JSON") from None


Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
TaskType = Annotated[int, AfterValidator(_task_type), BeforeValidator(_plain_integer)]
FromJson = BeforeValidator(_from_json)
AnyCase = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class TaskTypeSettings(BaseModel):
    """Name and limits of one task type. Fields that are left out have the general setting."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=128), AfterValidator(_printable)] = ""
    timeout: int | None = Field(default=None, gt=0, le=MAX_TIMEOUT_MS, description="ms per attempt")
    max_retries: int | None = Field(default=None, ge=0, le=MAX_RETRIES, alias="maxRetries")


class Settings(BaseSettings):
    """All settings with their defaults; the text below each is its row in docs/configuration.md."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True,
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    host: str = "127.0.0.1"
    """The address on which the API listens."""
    port: Port = 8080
    """Its port."""
    data_dir: Path = Path(".data")
    """Data, logs and keys of the embedded stack; its folder `demo` holds the pictures of the local nodes."""
    mode: Literal["development", "production"] = "development"
    """`production` refuses to start without `API_KEY` and addresses, with a key under 32 characters, or with a
    placeholder or default password."""
    api_key: SecretStr | None = None
    """The bootstrap key, an administrator's ([keys](keys.md))."""
    public_url: str | None = None
    """Where nodes reach the API. Where `HOST` means all addresses (`0.0.0.0`, `::`), the default is this machine's
    address towards `NODE_NETWORKS`, a guess that is logged."""
    cors_origins: str = ""
    """Origins whose pages may call from a browser, comma separated:
    `https://console.example.org,http://localhost:3000`; `*` for all. Calls need a key all the same."""

    database_url: str | None = None
    """`postgresql://…`; what it leaves out, libpq takes from its own `PG…` variables."""
    redis_url: str | None = None
    """`redis://…`, `rediss://…` or `unix://…`."""
    temporal_address: str | None = None
    """`host:port`; TLS and API key come from [Temporal's own variables](operations.md#to-temporal)."""
    temporal_namespace: Text = "default"
    """The namespace of our workflows."""
    temporal_port: Port = 7233
    """The port of the embedded Temporal server."""
    temporal_ui_port: Port = 8233
    """The port of its Web UI."""
    task_queue: Text = "gpu-orchestrator"
    """The Temporal task queue."""
    workflow_sandbox: bool = False
    """Run workflows in the SDK's sandbox. It costs about 10 ms of CPU for each task; the tests replay every committed
    history in it."""

    demo_nodes: int = Field(default=3, ge=0, le=64)
    """The number of local nodes of the embedded stack."""
    node_networks: str = "127.0.0.0/8"
    """Where nodes may be: CIDRs, comma separated. `0.0.0.0/0` means the public addresses; list private networks
    separately. [Some addresses](nodes.md#registering) are always refused."""
    node_ports: str = f"1-{MAX_PORT}"
    """Ports that nodes may have: numbers and ranges, comma separated. Our own services' ports, at their addresses, are
    always refused."""

    heartbeat_timeout: float = Field(default=40.0, ge=1, le=DAY_S)
    """Seconds of silence until a node is OFFLINE: the grace."""
    task_timeout: int = Field(default=300_000, gt=0, le=MAX_TIMEOUT_MS)
    """Milliseconds that one attempt may take, from its dispatch."""
    max_retries: int = Field(default=3, ge=0, le=MAX_RETRIES)
    """Retries of a task."""
    task_types: Annotated[dict[TaskType, TaskTypeSettings], NoDecode, FromJson] = Field(default_factory=dict)
    """Names and limits of task types, JSON: `{"2": {"name": "image", "timeout": 60000, "maxRetries": 1}}`. A type that
    is not listed works without."""
    vip_nodes_strict: bool = False
    """A VIP node never serves NORMAL work."""
    aging: float = Field(default=600.0, ge=1, le=YEAR_S)
    """Seconds of waiting after which a NORMAL task gets a share of the VIP class."""
    app_weights: Annotated[dict[str, float], NoDecode, FromJson] = Field(default_factory=dict)
    """Shares of apps within their class, JSON: `{"face_swap_app": 2}`; 0.01 to 100, others weigh 1. All tasks of a
    user's key that acts for nobody else have one share, its owner's ([ADR 0021](adr/0021-shares-follow-keys.md))."""

    rate_limits: Annotated[dict[Role, RoleRate], NoDecode, FromJson] = Field(default_factory=dict)
    """Calls per second and burst for each role, JSON: `{"user": {"rate": 50, "burst": 200}}`; a rate of 0 is no limit,
    and a role that is left out keeps its default. See [rate limits](#rate-limits)."""
    max_waiting: int = Field(default=10_000, ge=1, le=10_000_000)
    """Tasks of one user that users' keys may have waiting."""

    monitor_interval: float = Field(default=30.0, ge=1, le=DAY_S)
    """Seconds between two runs of the monitor."""
    first_looks: float = Field(default=10.0, ge=0.01, le=10_000)
    """How many waiting tasks of a type take their first step in a second, in a batch and for each API process ([ADR
    0018](adr/0018-first-looks-are-paced.md))."""
    instance_timeout: float = Field(default=15.0, ge=1, le=DAY_S)
    """Seconds of silence until an instance counts as gone."""
    leader_lease: float = Field(default=10.0, ge=1, le=3600)
    """Seconds that the leader's lease lasts."""
    cluster_id: Text = "cluster_001"
    """The name in `GET /cluster/status`."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], AnyCase] = "INFO"
    """The least level that is logged."""

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        return hosts.checked(value) if value else value

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not fits_a_header(value.get_secret_value()):
            raise ValueError(
                f"must be 1 to {MAX_KEY} visible ASCII characters without blanks: no header carries others"
            )
        return value

    @field_validator("database_url", "redis_url", "temporal_address")
    @classmethod
    def _check_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        checks = {"database_url": service_urls.postgres, "redis_url": service_urls.redis}
        return checks.get(str(info.field_name), service_urls.temporal)(value) if value else None

    @field_validator("node_networks")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        for part in value.split(","):
            ip_network(part.strip())
        return value

    @field_validator("node_ports")
    @classmethod
    def _check_ports(cls, value: str) -> str:
        _port_ranges(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        parts = _listed(value)
        if "*" in parts and len(parts) > 1:
            raise ValueError("must be * alone, or origins")
        for part in parts:
            if part != "*" and not _is_origin(part):
                raise ValueError(
                    "must be * or origins like https://host:port, comma separated: no path, no slash at the end"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://unset")
        if re.search(r"[\s\x00-\x1f\x7f]", value or "") or parts.username is not None:
            raise ValueError("must be an address without blanks and without a user")
        if parts.scheme not in ("http", "https") or parts.port == 0 or re.search(r"[?#\\]", value or ""):
            raise ValueError("must be an address like http://host:port")
        hosts.checked(parts.hostname or "")
        return value or None

    @field_validator("app_weights")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        for app, weight in value.items():
            if not 0.01 <= weight <= 100:
                raise ValueError(f"the weight of {app!r} must lie between 0.01 and 100")
        return value

    @model_validator(mode="after")
    def _check_ports_differ(self) -> Self:
        names = ("port", "temporal_port", "temporal_ui_port")
        if self.temporal_address is None and len({getattr(self, name) for name in names}) < len(names):
            raise ValueError(" and ".join(ENV_PREFIX + name.upper() for name in names) + " must differ")
        return self

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.mode != "production":
            return self
        missing = [
            name for name in ("api_key", "database_url", "redis_url", "temporal_address") if getattr(self, name) is None
        ]
        if missing:
            names = ", ".join(ENV_PREFIX + name.upper() for name in missing)
            raise ValueError(f"production mode needs {names}")
        if self.api_key is not None and len(self.api_key.get_secret_value()) < 32:
            raise ValueError(f"production mode needs a {ENV_PREFIX}API_KEY of at least 32 characters")
        if self.api_key is not None and is_placeholder(self.api_key.get_secret_value()):
            raise ValueError(f"production mode needs a {ENV_PREFIX}API_KEY that is no placeholder")
        for name in ("database_url", "redis_url"):
            if has_default_password(getattr(self, name)):
                raise ValueError(f"production mode needs another password in {ENV_PREFIX}{name.upper()}")
        return self

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """Where nodes may be (NODE_NETWORKS)."""
        return tuple(ip_network(part.strip()) for part in self.node_networks.split(","))

    @cached_property
    def port_ranges(self) -> tuple[range, ...]:
        """Where nodes may listen (NODE_PORTS)."""
        return _port_ranges(self.node_ports)

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may call (CORS_ORIGINS), as browsers write them."""
        return tuple(part.lower() for part in _listed(self.cors_origins))

    @property
    def grace(self) -> timedelta:
        """How long a node may stay silent before it is OFFLINE."""
        return timedelta(seconds=self.heartbeat_timeout)

    @cached_property
    def base_url(self) -> str:
        """Where nodes report to: PUBLIC_URL, or HOST and PORT; if HOST means every address, a guess that is logged."""
        if self.public_url:
            return self.public_url.rstrip("/")
        if not is_wildcard(self.host):
            return http_url(self.host, self.port)
        url = http_url(_address_towards(self.networks, self.host) or _loopback(self.host), self.port)
        log.warning("nodes are told to report to %s, a guess: set %sPUBLIC_URL if they can't", url, ENV_PREFIX)
        return url

    @property
    def local_url(self) -> str:
        """Where this machine reaches the API, whatever address it listens on."""
        return http_url(_loopback(self.host) if is_wildcard(self.host) else self.host, self.port)

    def rate_of(self, role: Role) -> Rate | None:
        """The rate at which the keys of a role may call, or None for no limit."""
        limit = self.rate_limits.get(role, RATES.get(role))
        return None if limit is None or not limit.rate else limit

    def bytes_of(self, role: Role) -> ByteRate | None:
        """The rate of bytes for the keys of a role, or None for no limit."""
        given, usual = self.rate_limits.get(role), RATES.get(role)
        rate = given.bytes if given and given.bytes is not None else usual and usual.bytes
        burst = given.bytes_burst if given and given.bytes_burst is not None else usual and usual.bytes_burst
        return ByteRate(rate, burst or math.ceil(rate)) if rate else None

    def weight_of(self, app: str) -> float:
        """An app's share of its class (fair queueing)."""
        return self.app_weights.get(app, DEFAULT_WEIGHT)

    def timeout_for(self, task_type: int) -> int:
        """Milliseconds that one attempt of a type may take, from dispatch."""
        own = self.task_types.get(task_type)
        return own.timeout if own and own.timeout is not None else self.task_timeout

    def max_retries_for(self, task_type: int) -> int:
        """The number of retries of a type's tasks."""
        own = self.task_types.get(task_type)
        return own.max_retries if own and own.max_retries is not None else self.max_retries


def load(*needed: str) -> Settings:
    """The settings of this process. Warns on standard error about variables with our prefix that nothing reads.

    Raises BadSettings with a line for each setting that cannot work, or is needed and unset.
    """
    sys.stderr.writelines(variables.warnings(os.environ, ENV_PREFIX, _variables()))
    settings = checked(Settings)
    if unset := [ENV_PREFIX + name.upper() for name in needed if getattr(settings, name) is None]:
        raise BadSettings(f"{' and '.join(unset)} must be set (`gpu-orchestrator run` does so by itself)")
    return settings


def checked(make: Callable[[], Settings]) -> Settings:
    """The settings that `make` returns. Raises BadSettings."""
    try:
        return make()
    except ValidationError as error:
        raise BadSettings("\nerror: ".join(_complaints(error))) from error


def fits_a_header(key: str) -> bool:
    """Whether a header can carry the key."""
    return re.fullmatch(rf"[!-~]{{1,{MAX_KEY}}}", key) is not None


def _variables() -> set[str]:
    """Every variable that one of our programs reads."""
    return {ENV_PREFIX + name.upper() for name in Settings.model_fields} | variables.AGENT | {variables.PUBLISH}


def _complaints(error: ValidationError) -> Iterator[str]:
    """`ORCHESTRATOR_NAME: what is wrong`, without the value."""
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        name, *inside = [str(part) if str(part).isprintable() else repr(part) for part in each["loc"]] or [""]
        where = [ENV_PREFIX + name.upper(), ".".join(inside)] if name else []
        yield ": ".join([*filter(None, where), each["msg"].removeprefix("Value error, ")])


def _listed(text: str) -> list[str]:
    """The parts of a comma separated list; an empty text has none."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


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


def http_url(host: str, port: int) -> str:
    """The URL of a server; an IPv6 address gets its brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether listening on this host means listening on every address of the machine."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def _loopback(host: str) -> str:
    return "::1" if ":" in host else "127.0.0.1"


def _address_towards(networks: Iterable[Network], host: str) -> str | None:
    """Our own address on the route to the first of the networks that has one; loopback counts last.

    Only networks of the same IP version as `host` count: our server on `::` does not accept IPv4.
    """
    version, family = (6, socket.AF_INET6) if ":" in host else (4, socket.AF_INET)
    own_kind = [network for network in networks if network.version == version]
    for network in sorted(own_kind, key=lambda network: network.is_loopback):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((_somebody_in(network), 9))  # of a datagram socket: no packet is sent
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return None


def _somebody_in(network: Network) -> str:
    """An address for finding a route. In a network as large as the Internet the first addresses belong to nobody."""
    if network.prefixlen < 8:
        return "192.0.2.1" if network.version == 4 else "2001:db8::1"
    return str(network[min(1, network.num_addresses - 1)])


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
