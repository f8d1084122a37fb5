"""Looking for violations of INVARIANTS in the rows; the rules are in `invariants`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.nodes import liveness
from infra.db.repair.check import Check
from infra.db.repair.overdue import ENDS_PER_S, FROM_OUTSIDE, IN_ORDER_FOR, OVERDUE_S
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import EndReason

EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """The result of one check. `unknown`: rows about which nothing can be said any more."""

    invariant: int
    name: str
    rows: int
    violations: int = 0
    examples: Sequence[str] = ()
    unknown: int = 0

    @classmethod
    def of(cls, invariant: int, name: str, rows: int, broken: Iterable[str], unknown: int = 0) -> Finding:
        """The report on the violations themselves."""
        found = sorted(broken)
        return cls(invariant, name, rows, len(found), found[:EXAMPLES], unknown)


class TaskRow(NamedTuple):
    """A task as Temporal must know it: ended `ended_s` seconds ago (0: not yet), `repaired` by the reconciler.

    `unbegun`: it was ended from outside before any node had it, perhaps before its workflow was started.
    """

    task_id: str
    status: str
    started: bool
    ended_s: float
    repaired: bool
    unbegun: bool = False
    cancelled: bool = False


class AcceptedResult(NamedTuple):
    """An accepted result, by the SHA-256 of its text."""

    task_id: str
    attempt: int
    gpu_id: str
    sha256: str


class _Found(NamedTuple):
    rows: int
    violations: int
    examples: list[str]


_FIND = """
    SELECT (SELECT count(*) FROM {rows}) AS rows, count(*) AS violations,
           COALESCE((array_agg(subject ORDER BY subject))[1:{examples}], '{{}}') AS examples
      FROM ({broken}) AS found(subject)
"""
_TASKS = f"""
    SELECT task_id, status, NOT EXISTS (SELECT FROM outbox o WHERE o.task_id = t.task_id) AS started,
           COALESCE(extract(epoch FROM clock_timestamp() - completed_at), 0)::float AS ended_s,
           EXISTS (SELECT FROM task_events e WHERE e.task_id = t.task_id AND e.from_status = e.to_status
                    AND e.actor = '{SystemActor.RECONCILER}') AS repaired,
           t.attempts <= 1 AND t.started_at IS NULL AND COALESCE(t.end_reason IN ({FROM_OUTSIDE}), false) AS unbegun,
           COALESCE(t.end_reason = '{EndReason.CANCELLED}', false) AS cancelled
      FROM tasks t WHERE CAST(%(task_id)s AS text) IS NULL OR task_id = %(task_id)s
    """
_CLOSES_WITHIN_S = f"""
    SELECT ({OVERDUE_S} + count(*) / {ENDS_PER_S}.0)::float
      FROM tasks t
      JOIN tasks before ON before.completed_at BETWEEN t.completed_at - {IN_ORDER_FOR} AND t.completed_at
     WHERE t.task_id = %(task_id)s AND t.end_reason IN ({FROM_OUTSIDE}) AND before.end_reason IN ({FROM_OUTSIDE})
    """
_RESULTS = (
    "SELECT task_id, attempt, gpu_id, encode(sha256(convert_to(result, 'UTF8')), 'hex') AS sha256"
    " FROM task_results r WHERE gpu_id = ANY (%(gpu_ids)s)"
    " AND NOT EXISTS (SELECT FROM tasks t WHERE t.task_id = r.task_id AND t.purged_at IS NOT NULL)"
)
_RESULT = "SELECT result FROM task_results WHERE task_id = %(task_id)s AND attempt = %(attempt)s"
_ACTIVE = "SELECT count(*) FROM gpus WHERE gone_at IS NULL AND status = 'ACTIVE'"


async def take_snapshot(connection: Connection) -> None:
    """Read one moment from now on, however long it takes. Must come first in the transaction."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await connection.execute("SET LOCAL statement_timeout = 0")


async def find(connection: Connection, check: Check) -> Finding:
    """The violations of one check."""
    statement = _FIND.format(rows=check.rows, broken=check.broken, examples=EXAMPLES)
    row = await connection.one(_Found, statement, {"strict": connection.policy.vip_nodes_strict})
    return Finding(check.invariant, check.name, row.rows, row.violations, row.examples)


async def silent_but_active(connection: Connection, allowed_s: float) -> Finding:
    """ACTIVE nodes whose last beat is older than the grace and one scan, together `allowed_s`.

    Silence is what the scan takes for it: none while no API process listens, or while the fleet guard holds.
    """
    rows = await connection.one(int, _ACTIVE)
    lapsed = (await liveness.find(connection, allowed_s)).lapsed
    return Finding.of(9, "an ACTIVE node has beaten within its grace", rows, (gpu_id for gpu_id, _ in lapsed))


async def tasks(connection: Connection, task_id: str | None = None) -> list[TaskRow]:
    """The rows that Temporal must agree with, of one task or of all."""
    return await connection.all(TaskRow, _TASKS, {"task_id": task_id})


async def closes_within_s(connection: Connection, task_id: str) -> float:
    """Seconds from the end of a task within which its workflow closes.

    After an end from outside it is notified in its turn: there may be thousands at one moment.
    """
    return await connection.one(float, _CLOSES_WITHIN_S, {"task_id": task_id})


async def results(connection: Connection, gpu_ids: Sequence[str]) -> list[AcceptedResult]:
    """The accepted results of some nodes."""
    return await connection.all(AcceptedResult, _RESULTS, {"gpu_ids": list(gpu_ids)})


async def result(connection: Connection, task_id: str, attempt: int) -> str:
    """The text of one accepted result."""
    return await connection.one(str, _RESULT, {"task_id": task_id, "attempt": attempt})
