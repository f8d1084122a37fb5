"""A task's search for a slot. One way for all: a node with a free slot takes the best waiting task.

`assign` gives the free slots of one node to the best waiting tasks; it runs in the transaction that frees them. `find`
is a task's own search, at its creation and before a retry: it assigns the slots of the best free node that the task may
use, so that the task never overtakes a better one, and sees whether it got one of them.

No grant is lost, by construction. A task searches while it holds its type's lock exclusively, from before it is
enqueued until it commits; a transaction that frees capacity holds the same lock shared from before it frees until it
has looked for a waiting task and committed. So of a miss and a release one sees the other. A slot can't be claimed
twice: every claim inserts its attempt while it holds the node's row, and a unique index on (node, slot) forbids it.

`README.md` of `infra/db` has the order of the locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.db.connection import Connection
from infra.db.slots import assign, eligibility
from infra.temporal.notifications import Granted
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
_CANDIDATE = f"""
    SELECT g.gpu_id {_FOR_TASK}
     ORDER BY COALESCE(array_position(CAST(%(failed_on)s AS text[]), g.gpu_id), 0),
              (g.priority_queue = 'VIP') <> %(vip)s, used.n::float / g.max_concurrent_tasks, g.task_failure_count,
              random()
     LIMIT 1 FOR UPDATE OF g"""
_CANDIDATES = {True: _CANDIDATE + " SKIP LOCKED", False: _CANDIDATE}
"""By whether it passes over a node whose row somebody holds."""


@dataclass(frozen=True)
class Found:
    """The result of a search: the task's own grant, and those of better tasks on the way.

    `waiting`: there is certainly no slot. With neither it is not over: somebody holds the row of a node.
    """

    grant: Grant | None = None
    others: tuple[Granted, ...] = ()
    waiting: bool = False

    def after(self, task_id: str, granted: Sequence[Granted]) -> Found:
        """With what one more node granted."""
        own = next((one.grant for one in granted if one.task_id == task_id), None)
        others = tuple(one for one in granted if one.task_id != task_id)
        return replace(self, grant=own, others=self.others + others)


@dataclass(frozen=True)
class Seeker:
    """A task that looks for a slot; `vip`: by its own priority."""

    task_id: str
    task_type: int
    vip: bool
    failed_on: list[str]
    barred_on: list[str]


async def find(connection: Connection, row: Seeker) -> Found:
    """Find a slot for a task that this transaction has enqueued, under its type's lock. Waits for no node's row.

    Assigns the slots of one free node after another, until this task gets one.
    """
    found = Found()
    tried: list[str] = []
    while found.grant is None:
        gpu_id = await candidate(connection, row, tried, skip_locked=True)
        if gpu_id is None:
            is_any_free = await connection.one(bool, _IS_ANY_FREE, _values(connection, row, tried))
            return replace(found, waiting=not is_any_free)
        tried.append(gpu_id)
        found = found.after(row.task_id, await assign.assign(connection, gpu_id))
    return found


async def is_any_free(connection: Connection, task_type: int, *, vip: bool) -> bool:
    """Whether some node has a slot for a new task of this type and class."""
    new = Seeker("", task_type, vip, failed_on=[], barred_on=[])
    return await connection.one(bool, _IS_ANY_FREE, _values(connection, new, []))


async def candidate(connection: Connection, row: Seeker, tried: list[str], *, skip_locked: bool) -> str | None:
    """The node that suits the task best among those not tried, with its row held."""
    values = _values(connection, row, tried) | {"failed_on": row.failed_on}
    return await connection.one_or_none(str, _CANDIDATES[skip_locked], values)


def _values(connection: Connection, row: Seeker, tried: list[str]) -> dict[str, object]:
    return {
        "task_type": row.task_type,
        "vip": row.vip,
        "barred_on": row.barred_on,
        "strict": connection.policy.vip_nodes_strict,
        "tried": tried,
    }
