"""The settings of every program, read from the environment once, in this one place.

Each field is the environment variable `ORCHESTRATOR_` + its name in capitals. An address left unset
means that the piece behind it is embedded: the supervisor starts it and hands its address to the
programs it runs. Programs started by hand need all three addresses.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.rates import Rate
from infra.secrecy import has_default_password, is_placeholder
from workflows.domain.queueing import DEFAULT_WEIGHT
from workflows.domain.role import Role

log = logging.getLogger(__name__)

ENV_PREFIX = "ORCHESTRATOR_"
MAX_PORT = 65535

RATES = {Role.USER: Rate(rate=50, burst=200), Role.NODE: Rate(rate=200, burst=400)}
"""Of the roles that RATE_LIMITS leaves out; those that are missing here too have no limit."""

Network = IPv4Network | IPv6Network


class TaskTypeSettings(BaseModel):
    """Name and limits of one task type; what is left out is the general setting."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    timeout: int | None = Field(default=None, gt=0, description="ms per attempt")
    max_retries: int | None = Field(default=None, ge=0, alias="maxRetries")


class Settings(BaseSettings):
    """All settings with their defaults. Durations are seconds unless the name or comment says otherwise."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=MAX_PORT)
    data_dir: Path = Path(".data")
    mode: Literal["development", "production"] = "development"
    api_key: SecretStr | None = None
    public_url: str | None = None  # how nodes reach this API; default http://HOST:PORT, see `base_url`

    database_url: str | None = None
    redis_url: str | None = None
    temporal_address: str | None = None
    temporal_namespace: str = "default"
    temporal_port: int = Field(default=7233, ge=1, le=MAX_PORT)
    temporal_ui_port: int = Field(default=8233, ge=1, le=MAX_PORT)
    task_queue: str = "gpu-orchestrator"
    workflow_sandbox: bool = False  # 10 ms of CPU per task; the tests replay every history in it

    demo_nodes: int = Field(default=3, ge=0, le=64)
    node_networks: str = "127.0.0.0/8"  # CIDRs, comma separated
    node_ports: str = f"1-{MAX_PORT}"  # ports and ranges, comma separated

    heartbeat_timeout: float = Field(default=40.0, gt=0)
    task_timeout: int = Field(default=300_000, gt=0)  # ms, per attempt
    max_retries: int = Field(default=3, ge=0)
    task_types: dict[int, TaskTypeSettings] = Field(default_factory=dict)  # JSON, e.g. {"2": {"name": "image"}}
    vip_nodes_strict: bool = False  # a VIP node never serves NORMAL work
    aging: float = Field(default=600.0, gt=0)  # a NORMAL task that waited so long gets a share of the VIP class
    app_weights: dict[str, float] = Field(default_factory=dict)  # JSON, e.g. {"face_swap_app": 2}; others weigh 1

    rate_limits: dict[Role, Rate] = Field(default_factory=dict)  # JSON, {"user": {"rate": 50, "burst": 200}}
    max_waiting: int = Field(default=10_000, ge=1)  # QUEUED tasks of one user that users' keys may pile up

    monitor_interval: float = Field(default=30.0, ge=1)
    first_looks: float = Field(default=10.0, gt=0)  # a second: of tasks of a type for which there is certainly no slot
    instance_timeout: float = Field(default=15.0, gt=0)
    leader_lease: float = Field(default=10.0, gt=0)
    cluster_id: str = "cluster_001"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

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

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://unset")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an address like http://host:port")
        return value or None

    @field_validator("app_weights")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        for app, weight in value.items():
            if not 0.01 <= weight <= 100:
                raise ValueError(f"the weight of {app!r} must lie between 0.01 and 100")
        return value

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
        """Where nodes may live (NODE_NETWORKS)."""
        return tuple(ip_network(part.strip()) for part in self.node_networks.split(","))

    @cached_property
    def port_ranges(self) -> tuple[range, ...]:
        """Where nodes may listen (NODE_PORTS)."""
        return _port_ranges(self.node_ports)

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
        """How often the keys of a role may call; None: there is no limit."""
        limit = self.rate_limits.get(role, RATES.get(role))
        return None if limit is None or not limit.rate else limit

    def weight_of(self, app: str) -> float:
        """An app's share of its class beside the others' (fair queueing)."""
        return self.app_weights.get(app, DEFAULT_WEIGHT)

    def timeout_for(self, task_type: int) -> int:
        """Milliseconds that one attempt of a type may take, from dispatch."""
        own = self.task_types.get(task_type)
        return own.timeout if own and own.timeout is not None else self.task_timeout

    def max_retries_for(self, task_type: int) -> int:
        """How many retries a task of a type has."""
        own = self.task_types.get(task_type)
        return own.max_retries if own and own.max_retries is not None else self.max_retries


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
    """Our own address on the way to the first of the networks that has a route; loopback counts last.

    Only networks of the same version as `host` do: our server on `::` does not take IPv4.
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
    """An address to look for a route to; the first ones of a network as large as the Internet belong to nobody."""
    if network.prefixlen < 8:
        return "192.0.2.1" if network.version == 4 else "2001:db8::1"
    return str(network[min(1, network.num_addresses - 1)])


def _port_ranges(text: str) -> tuple[range, ...]:
    """`8000-8999,9100`; raises ValueError."""
    ranges = []
    for part in text.split(","):
        first, _, last = (number.strip() for number in part.partition("-"))
        ports = range(int(first), int(last or first) + 1)
        if not ports or ports[0] < 1 or ports[-1] > MAX_PORT:
            raise ValueError(f"{part.strip()!r} is not a port or a range of ports from 1 to {MAX_PORT}")
        ranges.append(ports)
    return tuple(ranges)
