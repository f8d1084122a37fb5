"""The verdict, read from the database: what the orchestrator knows of its nodes, and what honest users noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.faults.clients import HONEST

# An alert stays, also of a verdict that was taken back.
_HEALTHY_FAULTY = """
    SELECT gpu_id FROM gpus WHERE gpu_id = ANY(%(names)s::text[]) AND status = 'FAULTY'
     UNION
    SELECT substr(cause, 7) FROM alerts WHERE cause = ANY(SELECT 'fault:' || n FROM unnest(%(names)s::text[]) n)
     UNION
    SELECT gpu_id FROM attempts WHERE gpu_id = ANY(%(names)s::text[]) AND outcome = 'FAULTY'
"""
_FOUND = """
    WITH tried AS (
        SELECT gpu_id, min(claimed_at) AS first, count(*) AS attempts
          FROM attempts WHERE gpu_id = ANY(%(names)s::text[]) GROUP BY gpu_id),
    alerted AS (
        SELECT DISTINCT ON (gpu_id) gpu_id, cause, raised_at
          FROM alerts, unnest(%(names)s::text[]) gpu_id
         WHERE cause = 'fault:' || gpu_id OR cause LIKE 'rest:%%:' || gpu_id ORDER BY gpu_id, raised_at)
    SELECT gpu_id, g.status, g.not_before IS NOT NULL AS rests, COALESCE(t.attempts, 0) AS attempts, alerted.cause,
           extract(epoch FROM alerted.raised_at - t.first)::float AS after_s,
           (SELECT count(*) FROM attempts a
             WHERE a.gpu_id = g.gpu_id AND a.claimed_at < alerted.raised_at) AS attempts_until
      FROM gpus g LEFT JOIN tried t USING (gpu_id) LEFT JOIN alerted USING (gpu_id)
     WHERE gpu_id = ANY(%(names)s::text[]) ORDER BY gpu_id
"""
_RESTED = """
    SELECT gpu_id || ' ' || split_part(cause, ':', 2) AS what, sum(count)::int AS n
      FROM alerts, unnest(%(names)s::text[]) gpu_id WHERE cause LIKE 'rest:%%:' || gpu_id GROUP BY 1
"""
_WAITS = """
    SELECT extract(epoch FROM completed_at - created_at)::float AS s FROM tasks
     WHERE user_id LIKE %(honest)s AND completed_at IS NOT NULL
       AND (created_at >= to_timestamp(%(since)s)) = %(after)s
"""


@dataclass(frozen=True)
class Found:
    """The cause of the first alert that names a bad node, and its time."""

    gpu_id: str
    status: str
    rests: bool
    attempts: int
    cause: str | None
    after_s: float | None  # since its first attempt
    attempts_until: int

    @property
    def is_known(self) -> bool:
        """Whether it is FAULTY, rests, or raised an alert. A node that hardly ever got work can't be known."""
        return self.status == "FAULTY" or self.rests or self.cause is not None or self.attempts < SEEN_OFTEN

    def __str__(self) -> str:
        state = f"{self.status}, {self.attempts} attempts"
        if self.after_s is None:
            return f"{state}, {'rests' if self.rests else 'no alert'}"
        kind = (self.cause or "").removesuffix(f":{self.gpu_id}")
        return f"{state}, {kind} after {self.after_s:.1f} s and {self.attempts_until} attempts"


SEEN_OFTEN = 12
"""Attempts after which every bad node must be known; half of those of one succeed."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on the whole run. Times of honest tasks, from creation to end, are p50 and p99 in seconds."""

    healthy_faulty: list[str]
    healthy_rested: dict[str, int]  # how often, by node and cause
    found: list[Found]
    before: str
    during: str

    @property
    def unknown(self) -> list[str]:
        """Bad nodes that are neither FAULTY nor resting, and raised no alert."""
        return [one.gpu_id for one in self.found if not one.is_known]


async def read(url: str, healthy: Sequence[str], bad: Sequence[str], joined_at: float) -> Verdict:
    """Read the database at `url`; the bad nodes joined at `joined_at` (s since 1970)."""
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:

        async def rows(statement: str, **values: Any) -> list[dict[str, Any]]:
            return await (await connection.execute(statement, values)).fetchall()

        async def times(*, after: bool) -> str:
            found = await rows(_WAITS, honest=f"{HONEST}%", since=joined_at, after=after)
            return _quantiles([row["s"] for row in found])

        return Verdict(
            [row["gpu_id"] for row in await rows(_HEALTHY_FAULTY, names=list(healthy))],
            {row["what"]: row["n"] for row in await rows(_RESTED, names=list(healthy))},
            [Found(**row) for row in await rows(_FOUND, names=list(bad))],
            await times(after=False),
            await times(after=True),
        )


def _quantiles(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "none"
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49]:.2f} / {cuts[98]:.2f} of {len(seconds)}"
