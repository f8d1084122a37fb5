"""A task's search for a slot. One way for all: a node with a free slot takes the best waiting task.

`find` is a task's own search, at its creation and before a retry: it assigns the slots of the best free node that the
task may use, so that the task never overtakes a better one, and sees whether it got one of them. It holds its type's
lock, so that no grant is lost (`README.md` of `infra/db`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.slots import assign, eligibility
from infra.db.slots.eligibility import Wanted
from workflows.messages import Grant
from workflows.notifications import Granted

# The nodes that have a slot for a task of this type and class.
_FREE = f"""
      FROM gpus g CROSS JOIN LATERAL {eligibility.used("g")} AS used(n)
     WHERE {eligibility.takes("g", eligibility.GIVEN)} AND {eligibility.has_free_slot("g", "used.n")}"""
_FOR_TASK = f"""{_FREE}
       AND g.gpu_id <> ALL (%(tried)s)
       AND NOT {eligibility.barred("g", eligibility.GIVEN)}"""
_IS_ANY_FREE = f"SELECT EXISTS (SELECT {_FOR_TASK})"
# The node that suits a task best. Nodes of its own class go first, so that VIP slots stay free for VIP work;
# then the least loaded, then the one with fewer recent failures.
_CANDIDATE = f"""
    SELECT g.gpu_id {_FOR_TASK}
     ORDER BY COALESCE(array_position(CAST(%(failed_on)s AS text[]), g.gpu_id), 0),
              (g.priority_queue = 'VIP') <> %(vip)s, used.n::float / g.max_concurrent_tasks, g.task_failure_count,
              random()
     LIMIT 1 FOR UPDATE OF g"""
_CANDIDATES = {True: _CANDIDATE + " SKIP LOCKED", False: _CANDIDATE}
"""Candidates by whether the search passes over a node whose row is locked."""


@dataclass(frozen=True)
class NoSlot:
    """No slot is free for the task, and any release from now on sees it wait."""


@dataclass(frozen=True)
class Undecided:
    """The search is not over: somebody holds the row of a node."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search, and the grants of better tasks on the way."""

    result: Grant | NoSlot | Undecided = Undecided()
    others: tuple[Granted, ...] = ()

    def after(self, task_id: str, granted: Sequence[Granted]) -> SearchResult:
        """The result, with the grants of one more node."""
        own = next((one.grant for one in granted if one.task.task_id == task_id), Undecided())
        others = tuple(one for one in granted if one.task.task_id != task_id)
        return SearchResult(own, self.others + others)


@dataclass(frozen=True)
class Seeker:
    """A task that looks for a slot; `vip`: by its own priority."""

    task_id: str
    task_type: int
    vip: bool
    failed_on: list[str]
    barred_on: list[str]


def seeker(task: str) -> str:
    """The columns of a `Seeker`, of a row of `tasks` by its alias."""
    return f"{task}.task_id, {task}.task_type, {order.vip(task)} AS vip, {task}.failed_on, {task}.barred_on"


async def find(connection: Connection, row: Seeker) -> SearchResult:
    """Find a slot for a task that this transaction has enqueued, under its type's lock. Waits for no node's row.

    Assigns the slots of one free node after another, until this task gets one.
    """
    found, tried = SearchResult(), list[str]()
    while isinstance(found.result, Undecided):
        gpu_id = await candidate(connection, row, tried, skip_locked=True)
        if gpu_id is None:
            return found if await is_any_free(connection, row, tried) else replace(found, result=NoSlot())
        tried.append(gpu_id)
        found = found.after(row.task_id, await assign.assign(connection, gpu_id))
    return found


async def is_any_free(connection: Connection, row: Seeker, tried: Sequence[str] = ()) -> bool:
    """Whether some node has a slot for the task, besides those tried."""
    return await connection.one(bool, _IS_ANY_FREE, _values(connection, row, tried))


async def candidate(connection: Connection, row: Seeker, tried: Sequence[str], *, skip_locked: bool) -> str | None:
    """The node that suits the task best among those not tried, with its row held."""
    values = _values(connection, row, tried) | {"failed_on": row.failed_on}
    return await connection.one_or_none(str, _CANDIDATES[skip_locked], values)


def _values(connection: Connection, row: Seeker, tried: Sequence[str]) -> dict[str, object]:
    return {**Wanted.of(row).parameters(connection.policy), "vip": row.vip, "tried": list(tried)}
