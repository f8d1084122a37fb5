"""The three services: which of them are embedded, and where they are."""

from __future__ import annotations

from dataclasses import dataclass

from infra.data_dir.embedded import postgres_url
from infra.data_dir.layout import DataDir
from infra.settings import Settings
from infra.temporal.access import options as access
from workers.stack import postgres, redis, temporal
from workers.stack.part import PartSpec
from workers.stack.supervisor import Port


@dataclass(frozen=True, slots=True)
class Services:
    """The addresses of the services, in the form that the settings take."""

    database_url: str
    redis_url: str
    temporal_address: str
    temporal_namespace: str
    temporal_ui_url: str | None  # None: Temporal is not embedded


def addresses(settings: Settings, data_dir: DataDir) -> Services:
    """The addresses from the settings; the embedded ones for those left unset."""
    local = temporal.LOOPBACK
    return Services(
        database_url=settings.database_url or postgres_url(data_dir),
        redis_url=settings.redis_url or redis.url(data_dir),
        temporal_address=settings.temporal_address or f"{local}:{settings.temporal_port}",
        temporal_namespace=_namespace(settings),
        temporal_ui_url=None if settings.temporal_address else f"http://{local}:{settings.temporal_ui_port}",
    )


def _namespace(settings: Settings) -> str:
    return settings.temporal_namespace if settings.temporal_address is None else access(settings)["namespace"]


def embedded_parts(settings: Settings, data_dir: DataDir) -> list[PartSpec]:
    """The services whose address is unset. Raises StackError if one is not installed."""
    parts = []
    if settings.database_url is None:
        parts.append(postgres.part(data_dir))
    if settings.redis_url is None:
        parts.append(redis.part(data_dir))
    if settings.temporal_address is None:
        ports = (settings.temporal_port, settings.temporal_ui_port)
        parts.append(temporal.part(data_dir, *ports, settings.temporal_namespace))
    return parts


def embedded_ports(settings: Settings) -> list[Port]:
    """The ports that the embedded services need; Postgres and Redis need none."""
    if settings.temporal_address is not None:
        return []
    return [
        Port(temporal.LOOPBACK, settings.temporal_port, "ORCHESTRATOR_TEMPORAL_PORT"),
        Port(temporal.LOOPBACK, settings.temporal_ui_port, "ORCHESTRATOR_TEMPORAL_UI_PORT"),
    ]
