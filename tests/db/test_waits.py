"""Waits that a person reads: an owner's tasks that have ended lately."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots import capacity
from infra.db.tasks import waits
from infra.db.tasks.waits import MinuteOfOwner
from tests.db import rows
from tests.db.sessions import Sessions

SINCE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=10)


async def _ended(connection: Connection, name: str, owner: str, minute: float, status: str, why: str) -> None:
    await connection.execute(
        "INSERT INTO event_log (xid, type, at, task_id, user_id, data) VALUES (event_stamp(), 'task.ended', %(at)s,"
        " %(name)s, %(owner)s, jsonb_build_object('status', %(status)s::text, 'endReason', %(why)s::text))",
        {"at": SINCE + timedelta(minutes=minute), "name": name, "owner": owner, "status": status, "why": why},
    )


@pytest.fixture
async def log(engine: Sessions, database: Database) -> AsyncIterator[Database]:
    """Tasks of two owners that have ended. Empty before and after."""
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)

    async def fill(connection: Connection) -> None:
        await _ended(connection, "old", "ada", -0.5, "FAILED", "FAILED")
        await _ended(connection, "done", "ada", 1, "COMPLETED", "COMPLETED")
        await _ended(connection, "failed", "ada", 1.5, "FAILED", "POISON")
        await _ended(connection, "late", "ada", 3, "TIMEOUT", "TIMEOUT")
        await _ended(connection, "cancelled", "ada", 3, "FAILED", "CANCELLED")
        await _ended(connection, "other", "bob", 1, "FAILED", "FAILED")

    await database.run(fill)
    yield database
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


@pytest.mark.parametrize("statement", [waits._WAITS, capacity._USUAL])
async def test_what_is_said_of_a_type_costs_the_same_whatever_else_has_ended(log: Database, statement: str) -> None:
    async def plan(connection: Connection) -> list[str]:
        await connection.execute(
            "INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,"
            " max_retries, queue_rank, completed_at) SELECT 't' || n, CASE WHEN n > 20 THEN 1 ELSE 2 END, 'COMPLETED',"
            " 'u', 'a', 1, 0, '{}', 1, 0, 0, to_timestamp(n) FROM generate_series(1, 3000) n"
        )
        await connection.execute("ANALYZE tasks")
        return await connection.all(str, f"EXPLAIN {statement}", {"task_types": [1, 2]})

    text = "\n".join(await log.run(plan))
    assert "using ix_tasks_durations" in text, text


async def test_what_ended_of_an_owner_s_tasks_is_counted_by_minute(log: Database) -> None:
    found = await log.run(lambda c: waits.ended_of(c, "ada", SINCE))
    first, second = SINCE + timedelta(minutes=1), SINCE + timedelta(minutes=3)
    assert found == [MinuteOfOwner(second, 0, 1, ["late"]), MinuteOfOwner(first, 1, 1, ["failed"])]


async def test_the_latest_failures_of_a_minute_are_named_and_only_some(log: Database, monkeypatch) -> None:
    bound = f"[1:{waits.MOST_NAMED}]"
    assert bound in waits._ENDED_OF
    monkeypatch.setattr(waits, "_ENDED_OF", waits._ENDED_OF.replace(bound, "[1:1]").replace("'minute'", "'century'"))
    (found,) = await log.run(lambda c: waits.ended_of(c, "ada", SINCE))
    assert (found.done, found.failed, found.failed_ids) == (1, 2, ["late"])
