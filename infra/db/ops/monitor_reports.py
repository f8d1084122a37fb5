"""Reports that a run of the monitor or of the leader leaves for others, by name (the table `monitor_reports`)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from infra.db import clock
from infra.db.connection import Connection

_KEEP = (
    "INSERT INTO monitor_reports AS m (name, body) VALUES (%(name)s, %(body)s)"
    " ON CONFLICT (name) DO UPDATE SET body = excluded.body, at = clock_timestamp()"
)
_READ = (
    "SELECT body FROM monitor_reports WHERE name = %(name)s"
    f" AND (CAST(%(within)s AS float) IS NULL OR {clock.recent('at', clock.seconds('within'))})"
)
_HOLD = "SELECT body, at FROM monitor_reports WHERE name = %(name)s FOR UPDATE"


class Report(NamedTuple):
    """A report, and when it was kept."""

    body: dict[str, Any]
    at: datetime


async def keep(connection: Connection, name: str, body: dict[str, Any]) -> None:
    """Keep what is reported now, in place of the last report of this name."""
    await connection.execute(_KEEP, {"name": name, "body": json.dumps(body)})


async def read(connection: Connection, name: str, *, within_s: float | None = None) -> dict[str, Any] | None:
    """The last report of this name; None without one, or if it is older than `within_s` seconds."""
    return await connection.one_or_none(dict, _READ, {"name": name, "within": within_s})


async def hold(connection: Connection, name: str) -> Report | None:
    """The last report of this name; no other transaction holds or keeps one until the end of the transaction."""
    return await connection.one_or_none(Report, _HOLD, {"name": name})
