"""Looking for violations of INVARIANTS in the rows; the rules are in `invariants`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from infra.db.connection import Connection, Row
from infra.db.nodes import liveness
from infra.db.repair.invariants import Check

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
        """From the violations themselves."""
        found = sorted(broken)
        return cls(invariant, name, rows, len(found), found[:EXAMPLES], unknown)


_FIND = """
    SELECT (SELECT count(*) FROM {rows}) AS rows, count(*) AS violations,
           COALESCE((array_agg(subject ORDER BY subject))[1:{examples}], '{{}}') AS examples
      FROM ({broken}) AS found(subject)
"""
_TASKS = text(
    """
    SELECT task_id, status, NOT EXISTS (SELECT FROM outbox o WHERE o.task_id = t.task_id) AS started,
           extract(epoch FROM clock_timestamp() - completed_at)::float AS ended_s,
           EXISTS (SELECT FROM task_events e WHERE e.task_id = t.task_id AND e.from_status = e.to_status) AS mended
      FROM tasks t WHERE CAST(:task_id AS text) IS NULL OR task_id = :task_id
    """
)
_RESULTS = text(
    "SELECT task_id, attempt, gpu_id, encode(sha256(convert_to(result, 'UTF8')), 'hex') AS sha256"
    " FROM task_results WHERE gpu_id = ANY (:gpu_ids)"
)
_RESULT = text("SELECT result FROM task_results WHERE task_id = :task_id AND attempt = :attempt")
_ACTIVE = text("SELECT count(*) FROM gpus WHERE gone_at IS NULL AND status = 'ACTIVE'")


async def take_snapshot(connection: Connection) -> None:
    """Read one moment from now on, however long it takes. Must come first in the transaction."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await connection.execute("SET LOCAL statement_timeout = 0")


async def find(connection: Connection, check: Check) -> Finding:
    """The violations of one check."""
    statement = _FIND.format(rows=check.rows, broken=check.broken, examples=EXAMPLES)
    row = (await connection.execute(text(statement.replace(":", r"\:")))).one()
    return Finding(check.invariant, check.name, row.rows, row.violations, row.examples)


async def silent_but_active(connection: Connection, allowed_s: float) -> Finding:
    """ACTIVE nodes whose last beat is older than the grace and one scan, together `allowed_s`.

    Silence is what the scan takes for it: none while no API process listens, or while the fleet guard holds.
    """
    rows = (await connection.execute(_ACTIVE)).scalar_one()
    lapsed = (await liveness.find(connection, allowed_s)).lapsed
    return Finding.of(9, "an ACTIVE node has beaten within its grace", rows, (gpu_id for gpu_id, _ in lapsed))


async def tasks(connection: Connection, task_id: str | None = None) -> Sequence[Row]:
    """What Temporal must agree with, of one task or of all: task_id, status, started, ended_s (s ago), mended."""
    return (await connection.execute(_TASKS, {"task_id": task_id})).all()


async def results(connection: Connection, gpu_ids: Sequence[str]) -> Sequence[Row]:
    """The accepted results of some nodes: task_id, attempt, gpu_id, sha256 of the text."""
    return (await connection.execute(_RESULTS, {"gpu_ids": list(gpu_ids)})).all()


async def result(connection: Connection, task_id: str, attempt: int) -> str:
    """The text of one accepted result."""
    found: str = (await connection.execute(_RESULT, {"task_id": task_id, "attempt": attempt})).scalar_one()
    return found
