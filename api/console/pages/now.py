"""Now: whether anything is wrong, how long people wait, what happened in the last hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cachetools import LRUCache

from api.console.charts import MINUTES, Bars, last_hour
from api.console.page import EVERYBODY, Asked, Page
from api.console.pages import now_of_user
from api.console.texts import N_
from api.dependencies import Context
from api.schemas.alerts import id_of
from infra.db.connection import Connection
from infra.db.ops import alerts, health
from infra.db.ops.alerts import Alert
from infra.db.ops.health import SystemState
from infra.db.ops.kinds import Kind
from infra.db.queue.oldest import Oldest, oldest
from infra.db.slots import usage
from infra.db.slots.eligibility import Wanted
from infra.db.slots.usage import Slots
from infra.db.tasks import waits
from infra.db.tasks.waits import Minute, Wait
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.event import EventType
from workflows.domain.health import Health
from workflows.domain.role import Role
from workflows.domain.task import TaskStatus

MOST_TYPES = 30
"""Types that are listed: those with the most tasks that wait, then those with the most that run."""
EXPLAINED = 6
"""Types whose wait is explained."""
LONG_S = 300.0
"""Seconds after which a wait is mentioned."""
MOST_ALERTS, LOOKED_AT = 5, 50
SETTLES = timedelta(minutes=2)
"""How long after a minute its counts are still read again; after that they are kept."""


@dataclass(frozen=True)
class TypeNow:
    """A type of task at this moment."""

    number: int
    name: str | None
    waiting: int
    running: int
    wait: Wait
    oldest: Oldest | None
    """None if none waits for a slot: those that wait may rest before their next attempt."""
    slots: Slots

    @property
    def is_late(self) -> bool:
        return self.oldest is not None and self.oldest.waited_s > LONG_S


class LastHour:
    """The tasks that ended in each minute. A past minute is read once and kept."""

    def __init__(self) -> None:
        self._kept: LRUCache[datetime, Minute] = LRUCache(2 * MINUTES)

    async def read(self, context: Context) -> list[Minute]:
        """The last hour, oldest first."""
        minutes = last_hour()
        missing = [one for one in minutes if one not in self._kept]
        found = {one.at: one for one in await context.database.single(lambda c: waits.ended(c, missing))}
        fresh = {one: found.get(one, Minute(one, 0, 0)) for one in missing}
        self._kept.update({at: one for at, one in fresh.items() if at < minutes[-1] - SETTLES})
        return [self._kept.get(one) or fresh[one] for one in minutes]


_last_hour = LastHour()


async def contents(asked: Asked) -> dict[str, Any]:
    """The contents for the whole system, or for the caller's own tasks if the caller is a user."""
    return await (now_of_user.contents if asked.caller.role is Role.USER else _of_all)(asked)


@dataclass(frozen=True)
class Seen:
    """The system at one moment."""

    state: SystemState
    waits: dict[int, Wait]
    oldest: dict[int, Oldest]
    slots_of_type: dict[int, Slots]
    slots: Slots
    alerts: list[Alert]
    """The latest active ones."""

    @classmethod
    async def read(cls, connection: Connection, instance_timeout_s: float) -> Seen:
        state = await health.read(connection, instance_timeout_s)
        chosen, fleet = _chosen(state.kinds), await usage.nodes(connection)
        return cls(
            state,
            await waits.by_type(connection, chosen),
            await oldest(connection, chosen),
            usage.by_type(fleet),
            usage.of_fleet(fleet),
            await alerts.latest(connection, {"status": AlertStatus.ACTIVE}, limit=LOOKED_AT),
        )


async def _of_all(asked: Asked) -> dict[str, Any]:
    context = asked.context
    seen = await context.database.run(lambda c: Seen.read(c, context.settings.instance_timeout))
    state, types = seen.state, [_type_now(context, seen, wait) for wait in seen.waits.values()]
    minutes = await _last_hour.read(context)
    return {
        "state": state,
        "types": types,
        "slots": seen.slots,
        "unserved": [one for one in types if one.waiting and not one.slots.slots],
        "late": [one for one in types if one.is_late and one.slots.slots],
        "why": [
            (one, (await context.forecast.of(Wanted(one.number, vip=False))).nodes) for one in types if one.waiting
        ][:EXPLAINED],
        "alerts": [(id_of(row.seq), row) for row in sorted(seen.alerts, key=_gravity)[:MOST_ALERTS]],
        "open_alerts": sum(n for (_, status), n in state.alerts.items() if status == AlertStatus.ACTIVE),
        "critical": state.alerts.get((AlertLevel.CRITICAL, AlertStatus.ACTIVE), 0),
        "warnings": state.alerts.get((AlertLevel.WARNING, AlertStatus.ACTIVE), 0),
        "level": _level(state, types),
        "leaderless": not any(one.leads for one in state.instances if one.alive),
        "gone": [one for one in state.instances if not one.alive],
        "full": [one for one in state.instances if one.alive and one.disk_nearly_full],
        "chart": Bars.of([(one.done, one.failed) for one in minutes]),
        "minutes": minutes,
    }


def _gravity(alert: Alert) -> tuple[bool, int]:
    """Sort key: open alerts before resolved ones, CRITICAL first."""
    return alert.resolved_at is not None, AlertLevel(alert.level).rank


def _chosen(by_kind: Mapping[Kind, int]) -> list[int]:
    """The types that are listed."""

    def rank(number: int) -> tuple[int, int, int]:
        return -by_kind.get((number, "QUEUED"), 0), -by_kind.get((number, "PROCESSING"), 0), number

    return sorted({number for number, _ in by_kind if number is not None}, key=rank)[:MOST_TYPES]


def _type_now(context: Context, seen: Seen, wait: Wait) -> TypeNow:
    number = wait.task_type
    settings = context.settings.task_types.get(number)
    return TypeNow(
        number,
        settings.name if settings else None,
        seen.state.kinds.get((number, TaskStatus.QUEUED), 0),
        seen.state.kinds.get((number, TaskStatus.PROCESSING), 0),
        wait,
        seen.oldest.get(number),
        seen.slots_of_type.get(number, Slots(0, 0)),
    )


def _level(state: SystemState, types: list[TypeNow]) -> Health:
    """The health of the whole, where a type without any node is a defect too."""
    if any(one.waiting and not one.slots.slots for one in types) and state.levels.system is Health.HEALTHY:
        return Health.DEGRADED
    return state.levels.system


PAGE = Page("now", "/now", N_("Now"), contents, roles=EVERYBODY, key="n", events=frozenset(EventType))
