"""Now for a user: whether anything is wrong with their tasks, and why they wait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from api.console import why
from api.console.charts import Bars, last_hour
from api.console.page import Asked
from api.console.pages import queue
from api.console.pages.queue import Row
from api.console.texts import N_
from infra.db.ops import counters
from infra.db.ops.kinds import by_type
from infra.db.queue import listing
from infra.db.queue.listing import Waiting
from infra.db.slots.eligibility import Wanted
from infra.db.tasks import lists, waits
from infra.db.tasks.filters import TaskFilter
from infra.db.tasks.lists import ListedTask
from infra.db.tasks.waits import Minute
from workflows.domain.task import TaskStatus

MOST_TYPES = 6
"""Types that are listed: those with the most tasks that wait, then those with the most that run."""
PAUSE = N_("A pause before the next attempt")


@dataclass(frozen=True)
class TypeOfUser:
    """A type of which the user has tasks that wait or run."""

    number: int
    name: str | None
    waiting: int
    running: int
    next: Row | None
    """None if none waits for a slot: those that wait may rest before their next attempt."""
    reason: str
    is_served: bool
    """Whether a node is ready for it."""


async def contents(asked: Asked) -> dict[str, Any]:
    """The contents for the caller's own tasks."""
    database, owner = asked.context.database, asked.caller.owner
    kinds = await database.single(lambda c: counters.tasks_by_kind(c, user_id=owner))
    waiting, running = +by_type(kinds, {TaskStatus.QUEUED}), +by_type(kinds, {TaskStatus.PROCESSING})
    types = (one for one in waiting.keys() | running.keys() if one is not None)
    chosen = sorted(types, key=lambda one: (-waiting[one], -running[one], one))
    rows = await _next(asked, [one for one in chosen[:MOST_TYPES] if waiting[one]])
    minutes = last_hour()
    found = await database.single(lambda c: waits.ended_of(c, owner, minutes[0]))
    ended = {one.at: one for one in found}
    shown = [ended.get(at, Minute(at, 0, 0)) for at in minutes]
    failed_ids = [task_id for one in found for task_id in one.failed_ids][: waits.MOST_NAMED]
    return {
        "waiting": waiting.total(),
        "running": running.total(),
        "types": [await _type(asked, one, waiting[one], running[one], rows.get(one)) for one in chosen[:MOST_TYPES]],
        "left_out": len(chosen) - MOST_TYPES,
        "minutes": shown,
        "chart": Bars.of([(one.done, one.failed) for one in shown]),
        "failures": await _tasks(asked, failed_ids),
    }


async def _next(asked: Asked, types: list[int]) -> dict[int, Row]:
    """The next task of each type, with its place and wait."""
    first: list[Waiting] = []
    for kind in types:
        ask = partial(listing.page_of_owner, owner=asked.caller.owner, task_types=[kind], limit=1)
        first += await asked.context.database.single(ask)
    return {row.task.task_type: row for row in (await queue.rows(asked, first) if first else [])}


async def _type(asked: Asked, number: int, waiting: int, running: int, row: Row | None) -> TypeOfUser:
    context = asked.context
    settings = context.settings.task_types.get(number)
    wanted = Wanted(number, vip=True) if row is None else Wanted.of(row.task)
    nodes = (await context.forecast.of(wanted)).nodes
    reason = why.reason(asked, nodes, sees_nodes=False) if row or not nodes.slots else asked._(PAUSE)
    return TypeOfUser(number, settings.name if settings else None, waiting, running, row, reason, nodes.slots > 0)


async def _tasks(asked: Asked, ids: list[str]) -> list[ListedTask]:
    """The user's tasks of these ids, in their order."""
    if not ids:
        return []
    chosen = TaskFilter(owner=asked.caller.owner, task_ids=tuple(ids))
    tasks, _ = await asked.context.database.run(lambda c: lists.page(c, chosen, limit=len(ids), offset=0, room=0))
    return sorted(tasks, key=lambda one: ids.index(one.task_id))
