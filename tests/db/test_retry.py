"""Fields that a retry takes over from the task that it repeats (ADR 0036)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.routes import steering
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.db.tasks import queries
from infra.settings import Settings
from tests.db import rows
from tests.db.life import Life
from tests.db.rows import CREATOR, NOW, Sql
from workflows.domain.errors import NotInThisState

LATER = Sql("clock_timestamp() + interval '1 h'")
EARLIER = Sql("clock_timestamp() - interval '1 h'")
EXPIRED = {"created_at": EARLIER, "expires_at": Sql("clock_timestamp() - interval '59 min'")}


async def test_a_relative_limit_starts_over_and_a_past_deadline_is_dropped(life: Life) -> None:
    await rows.task(life.connection, "past", deadline=EARLIER, **EXPIRED)
    await rows.task(life.connection, "ahead", deadline=LATER, group_id="g", flow="owner:u")
    past = await queries.original(life.connection, "past")
    now = await life.scalar("SELECT clock_timestamp()")
    assert past is not None
    assert past.expires_at is not None
    assert abs(past.expires_at - now - timedelta(minutes=1)) < timedelta(seconds=10)
    assert past.deadline is None
    ahead = await queries.original(life.connection, "ahead")
    assert ahead is not None
    assert (ahead.deadline, ahead.expires_at) == ((await life.task("ahead")).deadline, None)
    assert (ahead.group_id, ahead.flow) == ("g", "owner:u")


async def test_an_app_counts_if_the_key_of_the_task_was_granted_it(life: Life) -> None:
    await life.do("""INSERT INTO key_grants (lineage, grants) VALUES ('granted', '{"apps": ["a"]}'), ('other', '{}')""")
    for lineage, granted in (("granted", True), ("other", False), ("none", False), (None, False)):
        await rows.task(life.connection, f"of {lineage}", app="a", lineage=lineage)
        found = await queries.original(life.connection, f"of {lineage}")
        assert found is not None
        assert found.app_granted is granted


@pytest.fixture
async def ended(database: Database) -> AsyncIterator[None]:
    """A failed task with a webhook, and nothing else."""

    async def empty(connection: Any) -> None:
        await connection.execute(rows.EMPTY)
        await connection.execute("DELETE FROM webhooks")

    async def add(connection: Any) -> None:
        await empty(connection)
        await connection.execute(
            "INSERT INTO webhooks (webhook_id, owner, lineage, sees_all, events) VALUES ('w', 'u', 'k', false, '{}')"
        )
        webhook = {"webhook": "https://a.example/", "webhook_id": "w"}
        await rows.task(connection, "t", status="FAILED", completed_at=NOW, **webhook)

    await database.run(add)
    yield
    await database.run(empty)


@pytest.mark.parametrize(
    "later",
    ["UPDATE tasks SET payload = '', purged_at = clock_timestamp()", "UPDATE webhooks SET state = 'DISABLED'"],
    ids=["purged", "no secret"],
)
async def test_a_repetition_is_answered_as_before_when_the_task_can_be_retried_no_more(
    ended: None, database: Database, later: str
) -> None:
    forecast, temporal = Forecast(database), MagicMock(away=False)
    context: Any = AsyncMock(database=database, forecast=forecast, temporal=temporal, settings=Settings())

    async def retry(key: str | None) -> Any:
        return (await steering.retry_task(context, CREATOR, "t", key))["data"]

    first = await retry("key")
    await database.run(lambda c: c.execute(later))
    assert (await retry("key")).task_id == first.task_id
    for other in ("another", None):
        with pytest.raises(NotInThisState):
            await retry(other)
