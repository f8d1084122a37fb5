"""The leader's turn for limits: bounded in time; workflows of tasks on a node are notified first."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots import assign
from infra.db.transactions import end_at_limit
from tests.db import rows
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from tests.db.rows import NOW, Sql
from tests.db.sessions import Sessions
from workers.leader import limits
from workflows.notifications import Notifications

PAST = Sql("clock_timestamp() - interval '1 s'")
WAITING = [f"waits-{n}" for n in range(5)]


@pytest.fixture
async def due(life: Life) -> Life:
    """Tasks that wait, and one on a node, all past their deadline."""
    await life.node("n", [1])
    await rows.task(life.connection, "runs", waiting_since=NOW)
    await assign.assign(life.connection, "n")
    await life.do("UPDATE tasks SET deadline = clock_timestamp()")
    for task_id in WAITING:
        await rows.task(life.connection, task_id, waiting_since=NOW, deadline=PAST)
    return life


async def turn(life: Life, **options: Any) -> list[str]:
    """The tasks whose workflows it has notified."""
    temporal = MagicMock(deliver=AsyncMock())
    await limits.end_at_limits(OneConnection(life.connection), temporal, **options)
    sent: Notifications = temporal.deliver.await_args.args[0]
    return sent.ended


async def ended(life: Life) -> int:
    count: int = await life.scalar("SELECT count(*)::int FROM tasks WHERE end_reason = 'DEADLINE'")
    return count


async def test_what_a_node_may_still_run_is_notified_first(due: Life) -> None:
    notified = await turn(due)
    assert (notified[0], sorted(notified[1:])) == ("runs", WAITING)
    assert await ended(due) == 6


async def test_a_turn_begins_nothing_once_its_time_is_over(due: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH", 2)
    assert await turn(due, turn_s=0) == []
    assert await ended(due) == 0
    looks = iter([False, True])
    monkeypatch.setattr(limits._Turn, "is_over", property(lambda _: next(looks, True)))
    await turn(due)
    assert 0 < await ended(due) < 6
    monkeypatch.undo()
    await turn(due)
    assert await ended(due) == 6


async def test_a_row_that_cannot_be_ended_holds_up_no_other_one(due: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    end_one = end_at_limit.end

    async def fails(connection: Connection, *, task_id: str = "", **given: Any) -> Any:
        if task_id in {"", WAITING[0]}:
            raise ValueError("a bad row")
        return await end_one(connection, task_id=task_id, **given)

    monkeypatch.setattr(end_at_limit, "end", fails)
    monkeypatch.setattr(end_at_limit, "end_waiting", fails)
    notified = await turn(due, turn_s=60)
    assert sorted(notified) == sorted({"runs", *WAITING[1:]})
    assert await ended(due) == 5


async def test_a_row_that_somebody_holds_delays_no_other_task(engine: Sessions, database: Database) -> None:
    async with engine.connect() as writer, engine.connect() as holder:
        for task_id in ("held", "free"):
            await rows.task(writer, task_id, waiting_since=NOW, deadline=PAST)
        await writer.commit()
        try:
            await holder.execute("SELECT FROM tasks WHERE task_id = 'held' FOR UPDATE")
            await limits.end_at_limits(database, MagicMock(deliver=AsyncMock()))
            ended = await writer.rows("SELECT task_id FROM tasks WHERE end_reason = 'DEADLINE'")
            assert ended == [("free",)]
        finally:
            await holder.rollback()
            await writer.execute(rows.EMPTY)
            await writer.commit()
