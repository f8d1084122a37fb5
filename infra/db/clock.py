"""SQL for comparing stored times with the database's clock, which may have been ahead and set back.

A stored time in the future is unknown, not just now: it counts as long ago, and never as recent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

from infra.db.connection import Connection
from workflows.domain.retry import BACKOFF_CAP_S

NOW = "clock_timestamp()"
EPOCH = datetime.fromtimestamp(0, UTC)


_READ = f"SELECT {NOW}"


async def now(connection: Connection) -> datetime:
    """The time by the database's clock."""
    return await connection.one(datetime, _READ)


@overload
def moment(unix_ms: int) -> datetime: ...
@overload
def moment(unix_ms: int | None) -> datetime | None: ...
def moment(unix_ms: int | None) -> datetime | None:
    """The time in Unix milliseconds as the database takes it."""
    return None if unix_ms is None else EPOCH + timedelta(milliseconds=unix_ms)


def unix_ms(moment: datetime) -> int:
    """The database's time in Unix milliseconds, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def seconds(name: str) -> str:
    """The interval of a parameter in seconds."""
    return f"make_interval(secs => %({name})s)"


def long_ago(moment: str, interval: str) -> str:
    """Whether a moment is longer ago than an interval, or unknown; null if it is null."""
    return f"({moment} < {NOW} - {interval} OR {moment} > {NOW})"


def recent(moment: str, interval: str) -> str:
    """Whether a moment is no longer ago than an interval; null if it is null."""
    return f"({moment} BETWEEN {NOW} - {interval} AND {NOW})"


def known(moment: str) -> str:
    """The moment, or null if it is unknown."""
    return f"CASE WHEN {moment} <= {NOW} THEN {moment} END"


def age_s(moment: str) -> str:
    """The age of a moment in seconds: infinite if it is unknown, null if it is null."""
    return f"CASE WHEN {moment} > {NOW} THEN 'Infinity' ELSE extract(epoch FROM {NOW} - {moment})::float END"


def rests(not_before: str) -> str:
    """Whether a node rests, never for longer than the longest backoff."""
    return f"COALESCE({not_before} > {NOW} AND {possible_rest(not_before)}, false)"


def possible_rest(not_before: str) -> str:
    """Whether a backoff may end, or have ended, then; null if it is null."""
    return f"{not_before} <= {NOW} + interval '{BACKOFF_CAP_S:g} s'"
