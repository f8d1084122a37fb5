"""System: instances, the leader, how much is stored and how long it is kept."""

from __future__ import annotations

from typing import Any

from api.console.page import Asked, Page
from api.console.texts import N_
from infra.db.connection import Connection
from infra.db.ops import health, sizes
from infra.db.ops.health import SystemState
from infra.db.ops.sizes import Size

PROGRAMS = {"api": N_("API"), "worker": N_("Worker")}
"""Kinds of instances."""


async def contents(asked: Asked) -> dict[str, Any]:
    settings = asked.context.settings

    async def read(connection: Connection) -> tuple[SystemState, dict[str, Any] | None, list[Size], int]:
        state = await health.read(connection, settings.instance_timeout)
        return (
            state,
            await health.last_report(connection),
            await sizes.tables(connection),
            await sizes.total(connection),
        )

    state, report, tables, total = await asked.context.database.run(read)
    return {
        "state": state,
        "levels": [
            (N_("Nodes"), state.levels.gpu),
            (N_("Queue"), state.levels.queue),
            (N_("Tasks"), state.levels.task),
            (N_("Cluster"), state.levels.cluster),
        ],
        "estimates": (report or {}).get("wait_estimates") or {},
        "tables": tables,
        "largest": max((one.bytes for one in tables), default=0),
        "total": total,
        "retention": [
            (N_("Ended tasks, with all that is theirs"), settings.retain_tasks, "RETAIN_TASKS"),
            (N_("Their payloads and results"), settings.retain_payloads, "RETAIN_PAYLOADS"),
            (N_("Events"), settings.retain_events, "RETAIN_EVENTS"),
            (N_("Audit log"), settings.retain_audit, "RETAIN_AUDIT"),
            (N_("Alerts"), settings.retain_alerts, "RETAIN_ALERTS"),
        ],
        "programs": PROGRAMS,
    }


PAGE = Page("system", "/system", N_("System"), contents, key="y", every_s=5.0)
