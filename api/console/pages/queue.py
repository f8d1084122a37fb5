"""Queue: the tasks that wait, in the order in which they will run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from api.console import why
from api.console.page import EVERYBODY, Asked, Page
from api.console.paging import PER_PAGE
from api.console.texts import N_
from api.dependencies import Context
from api.routes import access
from api.routes.roles import OPERATORS
from infra.db.ops import counters
from infra.db.ops.kinds import by_type
from infra.db.queue import listing
from infra.db.queue.listing import Waiting
from infra.db.queue.order import HEAD, QueuePlace
from infra.db.slots import capacity
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.wait_estimate import interval_s, until_start_s
from workflows.domain.event import OF_TASKS
from workflows.domain.shares import DEFAULT_WEIGHT
from workflows.domain.task import TaskStatus

MOST_TYPES = 12
"""Types that have a chip: those with the most tasks."""
MOST_LISTED = 100
"""Types whose tasks are listed together: those with the most tasks."""
MOST_ASKED = 50
"""Types of which it is asked whether a node serves them."""
_APP = "app:"


@dataclass(frozen=True)
class Row:
    """A task in the queue. `is_exact`: its place is counted, not estimated; `expected_s`: an interval, which holds the
    time that tasks are sorted by, `starts_s`."""

    task: Waiting
    place: int
    is_exact: bool
    expected_s: tuple[float, float] | None
    starts_s: float | None
    reason: str
    share: float | None


async def contents(asked: Asked) -> dict[str, Any]:
    context, owner, chosen = asked.context, access.owner_seen_by(asked.caller), _type_in(asked)
    kinds = await context.database.single(lambda c: counters.tasks_by_kind(c, user_id=owner, task_type=chosen))
    waiting = by_type(kinds, {TaskStatus.QUEUED})
    queued = Counter({kind: n for kind, n in waiting.items() if kind is not None})
    unserved = await _unserved(context, queued) if chosen is None else []
    listed = [kind for kind, _ in queued.most_common(MOST_LISTED)]
    types = sorted(set(listed) - set(unserved)) or sorted(listed) if chosen is None else [chosen]
    after = QueuePlace.of_text(asked.query.get("after", "")) or HEAD
    tasks = await _page(context, owner, types, after)
    return {
        "rows": sorted(await rows(asked, tasks[:PER_PAGE]), key=_runs_at),
        "total": waiting.total() if chosen is None else queued[chosen],
        "types": sorted(kind for kind, _ in queued.most_common(MOST_TYPES)),
        "queued": queued,
        "unserved": unserved,
        "chosen": chosen,
        "is_first": after == HEAD,
        "next": tasks[PER_PAGE - 1].place.text if len(tasks) > PER_PAGE else None,
        "sees_nodes": asked.caller.role in OPERATORS,
    }


async def _unserved(context: Context, queued: Counter[int]) -> list[int]:
    """Types that no node serves now: their tasks are in no node's order."""
    some = [kind for kind, _ in queued.most_common(MOST_ASKED)]
    return [kind for kind in some if not (await context.forecast.of(Wanted(kind, vip=True))).ends_s]


def _runs_at(row: Row) -> tuple[bool, float, int]:
    """Sort key: the expected start, then the place; tasks without an estimate are last."""
    return row.starts_s is None, row.starts_s or 0.0, row.place


async def _page(context: Context, owner: str | None, types: list[int], after: QueuePlace) -> list[Waiting]:
    if owner is None:
        return await context.database.single(lambda c: listing.page(c, types, after, limit=PER_PAGE + 1))
    return await context.database.single(lambda c: listing.page_of_owner(c, owner, types, after, limit=PER_PAGE + 1))


async def rows(asked: Asked, tasks: list[Waiting]) -> list[Row]:
    """Waiting tasks with their places, waits and reasons."""
    context, seen = asked.context, await _capacities(asked.context, tasks)
    places = await _places(context, tasks, seen)
    starts_s = _starts(tasks, places, seen)
    kinds = sorted({(one.task_type, one.queue_class) for one in tasks})
    flows = await context.database.single(lambda c: listing.flows(c, kinds))
    types = sorted({one.task_type for one in tasks})
    spreads = await context.database.single(lambda c: capacity.spread_durations(c, types))
    found = []
    for task in tasks:
        (ahead, is_exact), fleet = places[task.task_id], seen[Wanted.of(task)]
        found.append(
            Row(
                task,
                ahead + 1,
                is_exact,
                interval_s(ahead, fleet, spreads.get(task.task_type)),
                starts_s.get(task.task_id),
                why.reason(asked, fleet.nodes, sees_nodes=asked.caller.role in OPERATORS),
                _share(context, task, flows.get((task.task_type, task.queue_class), [])),
            )
        )
    return found


async def _capacities(context: Context, tasks: Iterable[Waiting]) -> dict[Wanted, Capacity]:
    return {wanted: await context.forecast.of(wanted) for wanted in {Wanted.of(one) for one in tasks}}


async def _places(context: Context, tasks: list[Waiting], seen: dict[Wanted, Capacity]) -> dict[str, tuple[int, bool]]:
    """How many tasks are before each one among those that compete for its slots, and whether that is exact."""
    pools: dict[tuple[int, ...], list[Waiting]] = {}
    for task in tasks:
        pools.setdefault(tuple(seen[Wanted.of(task)].pool), []).append(task)
    places: dict[str, tuple[int, bool]] = {}
    for pool, members in pools.items():
        places |= await context.forecast.places(list(pool), {one.task_id: one.place for one in members})
    return places


def _starts(
    tasks: list[Waiting], places: dict[str, tuple[int, bool]], seen: dict[Wanted, Capacity]
) -> dict[str, float]:
    """Seconds until each task is expected to start: not before another one that competes with it and precedes it."""
    found: dict[str, float] = {}
    last: dict[tuple[int, ...], float] = {}
    for task in sorted(tasks, key=lambda one: places[one.task_id]):
        fleet = seen[Wanted.of(task)]
        start_s = until_start_s(places[task.task_id][0], fleet.ends_s, fleet.usual_s)
        if start_s is not None:
            pool = tuple(fleet.pool)
            found[task.task_id] = last[pool] = max(start_s, last.get(pool, 0.0))
    return found


def _share(context: Context, task: Waiting, flows: list[str]) -> float | None:
    """The share of its class that the task's flow has, of 1; None for a task promoted by age, which takes none."""
    weights = {flow: _weight(context, flow) for flow in flows}
    return weights[task.flow_name] / sum(weights.values()) if task.flow_name in weights else None


def _weight(context: Context, flow: str) -> float:
    return context.settings.weight_of(flow.removeprefix(_APP)) if flow.startswith(_APP) else DEFAULT_WEIGHT


def _type_in(asked: Asked) -> int | None:
    text = asked.query.get("taskType", "")
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 19 else None


PAGE = Page(
    "queue",
    "/queue",
    N_("Queue"),
    contents,
    roles=EVERYBODY,
    key="q",
    events=frozenset(OF_TASKS),
)
