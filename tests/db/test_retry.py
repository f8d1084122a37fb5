"""Fields that a retry takes over from the task that it repeats (ADR 0036)."""

from __future__ import annotations

from datetime import timedelta

from infra.db.tasks import queries
from tests.db import rows
from tests.db.life import Life
from tests.db.rows import Sql

LATER = Sql("clock_timestamp() + interval '1 h'")
EARLIER = Sql("clock_timestamp() - interval '1 h'")
EXPIRED = {"created_at": EARLIER, "expires_at": Sql("clock_timestamp() - interval '59 min'")}


async def test_a_relative_limit_begins_anew_and_a_past_deadline_is_dropped(life: Life) -> None:
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
