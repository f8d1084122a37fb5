"""A task's search for a slot. One way for all: a node with a free slot takes the best waiting task.

`assign` gives the free slots of one node to the best waiting tasks; it runs in the transaction that frees them. `find`
is a task's own search, at its creation and before a retry: it assigns the slots of the best free node that the task may
use, so that the task never overtakes a better one, and sees whether it got one of them.

No grant is lost, by construction. A task searches while it holds its type's lock exclusively, from before it is
enqueued until it commits; a transaction that frees capacity holds the same lock shared from before it frees until it
has looked for a waiting task and committed. So of a miss and a release one sees the other. A slot can't be claimed
twice: every claim inserts its attempt while it holds the node's row, and a unique index on (node, slot) forbids it.

`locks` has the order of the locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from infra.db.connection import Connection
from infra.db.slots import assign, eligibility
from infra.temporal.notifications import Granted
from workflows.domain.task import TERMINAL, EndReason, TaskStatus
from workflows.messages import Grant

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


@dataclass(frozen=True)
class Claim:
    """The result of a task's search for a slot: its own grant, and those of better tasks on the way.

    `settled` is a closed attempt that its workflow has not collected. `waiting`: there is certainly no slot. `past`: a
    limit of the task that has passed, so the task is to be ended. `running`: the last attempt of a task that has ended,
    where its node may still run it. With none of the four the search is not over, or the
    task is unknown or has ended.
    """

    status: TaskStatus | None = None
    grant: Grant | None = None
    settled: Grant | None = None
    waiting: bool = False
    cancelled: bool = False
    past: EndReason | None = None
    running: Grant | None = None
    others: tuple[Granted, ...] = ()
    tried: str | None = None  # the node that was waited for

    @property
    def over(self) -> bool:
        """Whether there is nothing more to look for."""
        ended = self.status is None or self.status in TERMINAL
        return ended or self.waiting or any(one is not None for one in (self.grant, self.settled, self.past))


@dataclass(frozen=True)
class Seeker:
    """A task that looks for a slot; `vip`: by its own priority."""

    task_id: str
    status: str
    task_type: int
    vip: bool
    failed_on: list[str]
    barred_on: list[str]


async def find(connection: Connection, row: Seeker) -> Claim:
    """Find a slot for a task that this transaction has enqueued, under its type's lock. Waits for no node's row.

    Assigns the slots of one free node after another, until this task gets one.
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


async def one_more(connection: Connection, row: Seeker, tried: list[str]) -> Claim:
    """Assign the slots of one more node, waiting for its row; `waiting` if there is none."""
    found = Claim(TaskStatus(row.status))
    gpu_id = await _candidate(connection, _CANDIDATE_AT_LAST, row, tried)
    if gpu_id is None:
        return replace(found, waiting=True)
    granted = await assign.assign(connection, gpu_id)
    return replace(_with(found, row.task_id, granted), tried=gpu_id)


async def is_any_free(connection: Connection, task_type: int, *, vip: bool) -> bool:
    """Whether some node has a slot for a new task of this type and class."""
    new = Seeker("", TaskStatus.QUEUED, task_type, vip, failed_on=[], barred_on=[])
    return await connection.one(bool, _IS_ANY_FREE, _values(connection, new, []))


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
