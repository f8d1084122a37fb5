"""The settings of every program, read from the environment once, in this one place.

Each field is the environment variable `ORCHESTRATOR_` + its name in capitals. An address left unset means that the
piece behind it is embedded: the supervisor starts it and passes its address to the programs it runs. Programs started
by hand need all three addresses. A variable that is set and empty counts as unset.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.environment import own_address, production, service_urls, variables
from infra.environment.bad_settings import BadSettings
from infra.environment.types import (
    MAX_PORT,
    AnyCase,
    Days,
    Delays,
    Destinations,
    FromJson,
    Host,
    Key,
    Networks,
    Origins,
    Port,
    Ports,
    PublicUrl,
    TaskType,
    TaskTypeSettings,
    Text,
    TraceUrl,
    Weight,
    if_set,
)
from infra.environment.variables import ENV_PREFIX as ENV_PREFIX
from infra.resilience.token_bucket import ByteRate, Rate, RoleRate
from workflows.domain.limits import MAX_RETRIES, MAX_TIMEOUT_MS
from workflows.domain.role import Role
from workflows.domain.shares import DEFAULT_WEIGHT

log = logging.getLogger(__name__)

DAY_S, YEAR_S = 86_400, 31_536_000

MIB = 1024 * 1024
RATES = {
    Role.USER: RoleRate(rate=50, burst=200, bytes=4 * MIB, bytesBurst=32 * MIB),
    Role.NODE: RoleRate(rate=200, burst=400, bytes=16 * MIB, bytesBurst=128 * MIB),
}
"""Rates of the roles that RATE_LIMITS leaves out. Roles that are missing here too have no limit."""


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

    host: Host = "127.0.0.1"
    """The address on which the API listens."""
    port: Port = 8080
    """Its port."""
    data_dir: Path = Path(".data")
    """Data, logs and keys of the embedded stack; its folder `demo` holds the pictures of the local nodes."""
    mode: Literal["development", "production"] = "development"
    """`production` refuses to start without `API_KEY` and addresses, with a key under 32 characters, or with a
    placeholder or default password."""
    api_key: Key = None
    """The bootstrap key, an administrator's ([keys](keys.md))."""
    public_url: PublicUrl = None
    """Where nodes reach the API. Where `HOST` means all addresses (`0.0.0.0`, `::`), the default is this machine's
    address towards `NODE_NETWORKS`, a guess that is logged."""
    cors_origins: Origins = Field(default="", validate_default=True)
    """Origins whose pages may call from a browser, comma separated:
    `https://console.example.org,http://localhost:3000`; `*` for all. Calls need a key all the same."""

    database_url: Annotated[str | None, if_set(service_urls.postgres)] = None
    """`postgresql://…`; what it leaves out, libpq takes from its own `PG…` variables."""
    redis_url: Annotated[str | None, if_set(service_urls.redis)] = None
    """`redis://…`, `rediss://…` or `unix://…`."""
    temporal_address: Annotated[str | None, if_set(service_urls.temporal)] = None
    """`host:port`; TLS and API key come from [Temporal's own variables](operations.md#to-temporal)."""
    temporal_namespace: Text = "default"
    """The namespace of our workflows."""
    temporal_port: Port = 7233
    """The port of the embedded Temporal server."""
    temporal_ui_port: Port = 8233
    """The port of its Web UI."""
    temporal_ui_url: PublicUrl = None
    """Where people reach Temporal's Web UI, for the console's links to workflows. The embedded stack sets it itself."""
    trace_url: TraceUrl = None
    """Where people see a trace, for the console's links: `https://jaeger.example.org/trace/{trace_id}`."""
    task_queue: Text = "gpu-orchestrator"
    """The Temporal task queue."""
    workflow_sandbox: bool = False
    """Run workflows in the SDK's sandbox. It costs about 10 ms of CPU for each task; the tests replay every committed
    history in it."""

    demo_nodes: int = Field(default=3, ge=0, le=64)
    """The number of local nodes of the embedded stack."""
    node_networks: Networks = Field(default="127.0.0.0/8", validate_default=True)
    """Where nodes may be: CIDRs, comma separated. `0.0.0.0/0` means the public addresses; list private networks
    separately. [Some addresses](nodes.md#registering) are always refused."""
    node_ports: Ports = Field(default=f"1-{MAX_PORT}", validate_default=True)
    """Ports that nodes may have: numbers and ranges, comma separated. Our own services' ports, at their addresses, are
    always refused."""

    webhook_networks: Networks = Field(default="", validate_default=True)
    """Where receivers of [webhooks](webhooks.md) may be in addition to public addresses, by http and at any port:
    CIDRs, comma separated, like `NODE_NETWORKS`. Elsewhere only https at port 443 is allowed."""
    webhook_retries: Delays = Field(default="5,300,1800,7200,18000,36000,50400,72000,86400", validate_default=True)
    """Seconds between the tries of a webhook's delivery, comma separated. It is given up after the last one."""

    notify: Destinations = Field(default="", validate_default=True)
    """Where alerts are sent: [Apprise](https://appriseit.com/) URLs, separated by blanks. A level before them (`INFO`,
    `WARNING`, `CRITICAL`) holds for those that follow: they get alerts of that level and above, `WARNING` unless said
    otherwise. `WARNING dingtalk://TOKEN CRITICAL feishu://TOKEN`; see
    [messages](monitoring.md#messages)."""

    heartbeat_timeout: float = Field(default=40.0, ge=1, le=DAY_S)
    """Seconds of silence until a node is OFFLINE: the grace."""
    task_timeout: int = Field(default=300_000, gt=0, le=MAX_TIMEOUT_MS)
    """Milliseconds that one attempt may take, from the dispatch that the node accepted."""
    max_retries: int = Field(default=3, ge=0, le=MAX_RETRIES)
    """Retries of a task."""
    task_types: Annotated[dict[TaskType, TaskTypeSettings], NoDecode, FromJson] = Field(default_factory=dict)
    """Names and limits of task types, JSON: `{"2": {"name": "image", "timeout": 60000, "maxRetries": 1}}`. A type that
    is not listed works without."""
    vip_nodes_strict: bool = False
    """A VIP node never serves NORMAL work."""
    aging: float = Field(default=600.0, ge=1, le=YEAR_S)
    """Seconds of waiting after which a NORMAL task gets a share of the VIP class."""
    app_weights: Annotated[dict[str, Weight], NoDecode, FromJson] = Field(default_factory=dict)
    """Shares of apps within their class, JSON: `{"face_swap_app": 2}`; 0.01 to 100, others weigh 1. All tasks of a
    user's key that acts for nobody else have one share, its owner's ([ADR 0021](adr/0021-shares-follow-keys.md))."""

    rate_limits: Annotated[dict[Role, RoleRate], NoDecode, FromJson] = Field(default_factory=dict)
    """Calls per second and burst for each role, JSON: `{"user": {"rate": 50, "burst": 200}}`; a rate of 0 is no limit,
    and a role that is left out keeps its default. See [rate limits](#rate-limits)."""
    max_waiting: int = Field(default=10_000, ge=1, le=10_000_000)
    """The most waiting tasks of one user. It limits only what users' keys create."""

    retain_tasks: Days = 30
    """Days that an ended task is kept with all its data, and a deregistered node with its row. See
    [retention](operations.md#growth-and-retention)."""
    retain_payloads: Days = 7
    """Days that the payload and the result of an ended task are kept."""
    retain_events: Days = 7
    """Days that an event can be read by a consumer that was away."""
    retain_audit: Days = 365
    """Days that an entry of the audit log is kept."""
    retain_alerts: Days = 90
    """Days that an alert is kept; a condition that lasts is raised again."""

    monitor_interval: float = Field(default=30.0, ge=1, le=DAY_S)
    """Seconds between two runs of the monitor."""
    instance_timeout: float = Field(default=15.0, ge=1, le=DAY_S)
    """Seconds of silence until an instance counts as gone."""
    leader_lease: float = Field(default=10.0, ge=1, le=3600)
    """Seconds that the leader's lease lasts."""
    cluster_id: Text = "cluster_001"
    """The name in `GET /cluster/status`."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], AnyCase] = "INFO"
    """The least level that is logged."""

    @model_validator(mode="after")
    def _check_ports_differ(self) -> Self:
        names = ("port", "temporal_port", "temporal_ui_port")
        if self.temporal_address is None and len({getattr(self, name) for name in names}) < len(names):
            raise ValueError(" and ".join(ENV_PREFIX + name.upper() for name in names) + " must differ")
        return self

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.mode == "production":
            production.check(self.api_key, {name: getattr(self, name) for name in production.ADDRESSES})
        return self

    @cached_property
    def base_url(self) -> str:
        """Where nodes report to: PUBLIC_URL, or HOST and PORT; if HOST means every address, a guess that is logged."""
        if self.public_url:
            return self.public_url.rstrip("/")
        if not own_address.is_wildcard(self.host):
            return own_address.http_url(self.host, self.port)
        url = own_address.http_url(
            own_address.towards(self.node_networks, self.host) or own_address.loopback(self.host), self.port
        )
        log.warning("%sPUBLIC_URL is unset; nodes will report to %s (guessed)", ENV_PREFIX, url)
        return url

    @property
    def local_url(self) -> str:
        """Where this machine reaches the API, for any address that it listens on."""
        here = own_address.loopback(self.host) if own_address.is_wildcard(self.host) else self.host
        return own_address.http_url(here, self.port)

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


def _variables() -> set[str]:
    """Every variable that one of our programs reads."""
    return {ENV_PREFIX + name.upper() for name in Settings.model_fields} | variables.AGENT | {variables.PUBLISH}


def _complaints(error: ValidationError) -> Iterator[str]:
    """`ORCHESTRATOR_NAME: what is wrong`, without the value."""
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        name, *inside = [str(part) if str(part).isprintable() else repr(part) for part in each["loc"]] or [""]
        where = [ENV_PREFIX + name.upper(), ".".join(inside)] if name else []
        yield ": ".join([*filter(None, where), each["msg"].removeprefix("Value error, ")])
