"""Claiming slots. One way for all: a node with a free slot takes the best waiting task.

`slots.assign` gives the free slots of one node to the best waiting tasks; it runs in the transaction that
frees them. `find` is a task's own search for a slot, at its creation and before a retry: it hands over the best free
node that the task may use, so that the task never overtakes a better one, and sees whether a slot fell to it.

No grant is lost, by construction. A task searches while it holds its type's lock exclusively, from before it is
enqueued until it commits; whoever frees capacity holds the same lock shared from before it frees
until it has looked for a waiting task and committed. So of a miss and a release one sees the other.
A slot can't be claimed twice: every claim inserts its attempt while it holds the node's row, and a
partial unique index on (node, slot) stands behind that.

`locks` has the order of the locks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from infra.db import locks
from infra.db.connection import Connection
from infra.db.slots import assign, eligibility
from infra.temporal.notifications import Granted
from workflows.domain.task import TERMINAL, TaskStatus
from workflows.messages import Grant

_REQUEST = """
    SELECT t.task_id, t.status, t.task_type, t.queue_class > 0 AND t.promoted_at IS NULL AS vip, t.failed_on,
           t.barred_on, t.waiting_since, t.attempts, a.attempt, a.gpu_id, a.closed_at, a.collected_at
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE t.task_id = %(task_id)s
    """
# The nodes that have a slot for a task of this type and class.
_FREE = f"""
      FROM gpus g CROSS JOIN LATERAL {eligibility.used("g")} AS used(n)
     WHERE {eligibility.runs("g", "%(task_type)s")} AND {eligibility.works("g")} AND NOT {eligibility.rests("g")}
       AND used.n < {eligibility.slots("g")} AND {eligibility.serves("g", "%(vip)s")}"""
_FOR_TASK = f"""{_FREE}
       AND g.gpu_id <> ALL (%(tried)s)
       AND NOT {eligibility.barred("g", "%(task_type)s", "%(vip)s", "CAST(%(barred_on)s AS text[])")}"""
_IS_ANY_FREE = f"SELECT EXISTS (SELECT {_FOR_TASK})"
# The node that suits a task best. Nodes of its own class go first, so that VIP slots stay free for VIP work;
# then the least loaded, then the one with fewer recent failures.
_CANDIDATE_AT_LAST = f"""
    SELECT g.gpu_id {_FOR_TASK}
     ORDER BY COALESCE(array_position(CAST(%(failed_on)s AS text[]), g.gpu_id), 0),
              (g.priority_queue = 'VIP') <> %(vip)s, used.n::float / g.max_concurrent_tasks, g.task_failure_count,
              random()
     LIMIT 1 FOR UPDATE OF g"""
_CANDIDATE_AT_ONCE = _CANDIDATE_AT_LAST + " SKIP LOCKED"

_ENQUEUE = (  # `attempts` is as it was read: so a claim that came in between is seen on this very row
    "UPDATE tasks SET waiting_since = clock_timestamp()"
    " WHERE task_id = %(task_id)s AND waiting_since IS NULL AND status = 'QUEUED' AND attempts = %(attempts)s"
)


@dataclass(frozen=True)
class Claim:
    """What became of a task's search for a slot: its own grant, and those that fell to better tasks on the way.

    `settled` is a closed attempt that its workflow has not collected. `waiting`: there is certainly no slot. With none
    of the three the search is not over, or the task is unknown or has ended.
    """

    status: TaskStatus | None = None
    grant: Grant | None = None
    settled: Grant | None = None
    waiting: bool = False
    others: tuple[Granted, ...] = ()
    tried: str | None = None  # the node that was waited for

    @property
    def over(self) -> bool:
        """Whether there is nothing more to look for."""
        ended = self.status is None or self.status in TERMINAL
        return ended or self.waiting or self.grant is not None or self.settled is not None


@dataclass(frozen=True)
class Seeker:
    """A task that looks for a slot; `vip`: by its own priority."""

    task_id: str
    status: str
    task_type: int
    vip: bool
    failed_on: list[str]
    barred_on: list[str]


@dataclass(frozen=True)
class _Task(Seeker):
    waiting_since: datetime | None
    attempts: int
    attempt: int | None  # the last one, and its node
    gpu_id: str | None
    closed_at: datetime | None
    collected_at: datetime | None


Transaction = Callable[[Callable[[Connection], Awaitable[Claim]]], Awaitable[Claim]]
"""Runs work in one transaction: `Database.run`."""


async def claim(transaction: Transaction, task_id: str) -> Claim:
    """Find a slot for a task, or leave it waiting. Repeating it returns the open grant.

    First a search that waits for no node's row. If it is not certain, each further transaction waits for one node: a
    transaction that holds a node's row never waits for another lock, so no two block each other.
    """
    found = await transaction(partial(_search, task_id=task_id))
    tried: list[str] = []
    while not found.over:
        last = await transaction(partial(_search_on, task_id=task_id, tried=tried))
        tried = [*tried, *filter(None, [last.tried])]
        found = replace(last, others=found.others + last.others)
    return found


async def _search(connection: Connection, task_id: str) -> Claim:
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found
    if row.waiting_since is None:
        await connection.execute(_ENQUEUE, {"task_id": task_id, "attempts": row.attempts})
    return await find(connection, row)


async def _search_on(connection: Connection, task_id: str, tried: list[str]) -> Claim:
    """One more node, or the certainty that there is none."""
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found
    gpu_id = await _candidate(connection, _CANDIDATE_AT_LAST, row, tried)
    if gpu_id is None:
        return replace(found, waiting=True)
    granted = await assign.assign(connection, gpu_id)
    return replace(_with(found, task_id, granted), tried=gpu_id)


async def find(connection: Connection, row: Seeker) -> Claim:
    """Find a slot for a task that this transaction has enqueued, under its type's lock. Waits for no node's row.

    Hands over one free node after the other, until a slot falls to this task.
    """
    found = Claim(TaskStatus(row.status))
    tried: list[str] = []
    while found.grant is None:
        gpu_id = await _candidate(connection, _CANDIDATE_AT_ONCE, row, tried)
        if gpu_id is None:
            is_any_free = await connection.one(bool, _IS_ANY_FREE, _values(connection, row, tried))
            return replace(found, waiting=not is_any_free)
        tried.append(gpu_id)
        granted = await assign.assign(connection, gpu_id)
        found = _with(found, row.task_id, granted)
    return found


async def is_any_free(connection: Connection, task_type: int, *, vip: bool) -> bool:
    """Whether some node has a slot for a new task of this type and class."""
    values = {
        "task_type": task_type,
        "vip": vip,
        "strict": connection.policy.vip_nodes_strict,
        "barred_on": [],
        "tried": [],
    }
    return await connection.one(bool, _IS_ANY_FREE, values)


async def _hold(connection: Connection, task_id: str) -> tuple[_Task | None, Claim]:
    """Take the lock of the task's type, and read how the task is then."""
    row = await _read(connection, task_id)
    if row is not None and not _found(row).over:
        await locks.miss(connection, row.task_type)
        row = await _read(connection, task_id)
    return row, _found(row)


async def _read(connection: Connection, task_id: str) -> _Task | None:
    return await connection.one_or_none(_Task, _REQUEST, {"task_id": task_id})


def _found(row: _Task | None) -> Claim:
    """What the row of a task and its last attempt say."""
    if row is None:
        return Claim()
    found = Claim(TaskStatus(row.status))
    if row.attempt is None or row.gpu_id is None or row.collected_at is not None:
        return found
    last = Grant(row.attempt, row.gpu_id)
    return replace(found, settled=last) if row.closed_at is not None else replace(found, grant=last)


async def _candidate(connection: Connection, statement: str, row: Seeker, tried: list[str]) -> str | None:
    values = _values(connection, row, tried) | {"failed_on": row.failed_on}
    return await connection.one_or_none(str, statement, values)


def _values(connection: Connection, row: Seeker, tried: list[str]) -> dict[str, object]:
    return {
        "task_type": row.task_type,
        "vip": row.vip,
        "barred_on": row.barred_on,
        "strict": connection.policy.vip_nodes_strict,
        "tried": tried,
    }


def _with(found: Claim, task_id: str, granted: list[Granted]) -> Claim:
    own = next((one.grant for one in granted if one.task_id == task_id), None)
    return replace(found, grant=own, others=found.others + tuple(one for one in granted if one.task_id != task_id))
