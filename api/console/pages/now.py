"""Now: whether anything is wrong, how long people wait, what happened in the last hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cachetools import LRUCache

from api.console.charts import Bars
from api.console.page import Asked, Page
from api.console.texts import N_
from api.dependencies import Context
from api.schemas.alerts import id_of
from infra.db.connection import Connection
from infra.db.ops import alerts, counters, health
from infra.db.ops.alerts import Alert
from infra.db.ops.health import SystemState
from infra.db.queue.oldest import Oldest, oldest
from infra.db.slots import usage
from infra.db.slots.capacity import Nodes
from infra.db.slots.usage import Slots
from infra.db.tasks import waits
from infra.db.tasks.waits import Minute, Wait
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.event import EventType
from workflows.domain.health import Health
from workflows.domain.task import TaskStatus

MINUTES = 60
MOST_TYPES = 30
"""Types that are listed: those with the most tasks that wait, then those with the most that run."""
EXPLAINED = 6
"""Types of which it is said why their work waits."""
LONG_S = 300.0
"""Seconds after which a wait is worth a sentence."""
MOST_ALERTS, LOOKED_AT = 5, 50
_MINUTE = timedelta(minutes=1)


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
    """What ended in each minute: minutes that are over are read once, and then kept."""

    def __init__(self) -> None:
        self._kept: LRUCache[datetime, Minute] = LRUCache(2 * MINUTES)

    async def read(self, context: Context) -> list[Minute]:
        """The last hour, oldest first."""
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        minutes = [now - back * _MINUTE for back in range(MINUTES - 1, -1, -1)]
        missing = [one for one in minutes if one not in self._kept]
        found = {one.at: one for one in await context.database.single(lambda c: waits.ended(c, missing))}
        fresh = {one: found.get(one, Minute(one, 0, 0)) for one in missing}
        self._kept.update({at: one for at, one in fresh.items() if at < now - 2 * _MINUTE})
        return [self._kept.get(one) or fresh[one] for one in minutes]


_last_hour = LastHour()


async def contents(asked: Asked) -> dict[str, Any]:
    context = asked.context

    async def read(connection: Connection) -> tuple[Any, ...]:
        state = await health.read(connection, context.settings.instance_timeout)
        by_kind = (await counters.read(connection)).tasks
        chosen = _chosen(by_kind)
        filters: dict[str, object] = {"status": AlertStatus.ACTIVE}
        opened, total = await alerts.page(connection, filters, limit=LOOKED_AT, offset=0)
        return (
            state,
            by_kind,
            await waits.by_type(connection, chosen),
            await oldest(connection, chosen),
            await usage.by_type(connection),
            await usage.of_fleet(connection),
            opened,
            total,
        )

    state, by_kind, wait_of, oldest_of, slots_of, slots, opened, total = await context.database.run(read)
    types = [
        _type_now(context, by_kind, wait, oldest_of.get(number), slots_of.get(number, Slots(0, 0)))
        for number, wait in wait_of.items()
    ]
    minutes = await _last_hour.read(context)
    return {
        "state": state,
        "types": types,
        "slots": slots,
        "unserved": [one for one in types if one.waiting and not one.slots.slots],
        "late": [one for one in types if one.is_late and one.slots.slots],
        "why": [(one, await _why(context, one.number)) for one in types if one.waiting][:EXPLAINED],
        "alerts": [(id_of(row.seq), row) for row in sorted(opened, key=_gravity)[:MOST_ALERTS]],
        "open_alerts": total,
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
    """What is over comes last, CRITICAL first."""
    return alert.resolved_at is not None, list(AlertLevel).index(AlertLevel(alert.level))


def _chosen(by_kind: dict[tuple[int, str], int]) -> list[int]:
    """The types that are listed."""

    def rank(number: int) -> tuple[int, int, int]:
        return -by_kind.get((number, "QUEUED"), 0), -by_kind.get((number, "PROCESSING"), 0), number

    return sorted({number for number, _ in by_kind}, key=rank)[:MOST_TYPES]


def _type_now(
    context: Context, by_kind: dict[tuple[int, str], int], wait: Wait, first: Oldest | None, slots: Slots
) -> TypeNow:
    number = wait.task_type
    settings = context.settings.task_types.get(number)
    return TypeNow(
        number,
        settings.name if settings else None,
        by_kind.get((number, TaskStatus.QUEUED), 0),
        by_kind.get((number, TaskStatus.PROCESSING), 0),
        wait,
        first,
        slots,
    )


async def _why(context: Context, number: int) -> Nodes:
    """Why no node takes a task of this type now."""
    return (await context.forecast.of(number, vip=False)).nodes


def _level(state: SystemState, types: list[TypeNow]) -> Health:
    """The health of the whole, where a type without any node is a defect too."""
    if any(one.waiting and not one.slots.slots for one in types) and state.levels.system is Health.HEALTHY:
        return Health.DEGRADED
    return state.levels.system


PAGE = Page("now", "/now", N_("Now"), contents, key="n", events=frozenset(EventType))
