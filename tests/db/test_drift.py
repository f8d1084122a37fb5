"""The searches for drift, over many rows."""

from __future__ import annotations

import re

from infra.db.repair import drift
from infra.db.tasks import outbox
from infra.db.transactions import cancel_task
from tests.db import rows
from tests.db.life import Life

MOST = 501  # 500 that wait, and the one that has a slot
ALL = 9999


async def test_of_many_tasks_whose_start_is_not_confirmed_only_some_are_looked_at(life: Life) -> None:
    await rows.crowd(life.connection)
    await life.connection.execute("INSERT INTO outbox (task_id) SELECT task_id FROM tasks ON CONFLICT DO NOTHING")
    await life.node("n", [2])
    await life.create("has a slot", 2, claims_slot=True)
    await life.connection.execute("UPDATE outbox SET created_at = clock_timestamp() - interval '1 min'")
    found = await drift.not_started(life.connection, 5)
    assert (found[0].task_id, found[0].waits) == ("has a slot", False)
    assert (len(found), {one.waits for one in found[1:]}) == (MOST, {True})
    plan = "".join(await life.connection.all(str, f"EXPLAIN (ANALYZE) {drift._NOT_STARTED}", {"age": 5.0}))
    assert max(map(int, re.findall(r"loops=(\d+)", plan))) <= MOST


async def test_entries_of_ended_tasks_are_found_by_key_though_statistics_are_old(life: Life) -> None:
    await life.create("ended")
    await life.connection.execute(
        "UPDATE tasks SET status = 'FAILED', waiting_since = NULL, completed_at = clock_timestamp()"
    )
    await life.connection.execute("ANALYZE tasks")  # which says that none is unfinished
    await life.connection.execute(rows.CROWD)
    await life.connection.execute("INSERT INTO outbox (task_id) SELECT task_id FROM tasks ON CONFLICT DO NOTHING")
    plan = "\n".join(await life.connection.all(str, f"EXPLAIN {outbox._CLEAR_ENDED}", {"limit": ALL}))
    assert "Seq Scan on tasks" not in plan
    await outbox.clear_ended(life.connection, ALL)
    left = await life.connection.all(str, "SELECT task_id FROM outbox")
    assert (len(left), "ended" in left) == (3000, False)


async def test_some_entries_of_ended_tasks_are_deleted_at_once_and_the_rest_next_time(life: Life) -> None:
    await life.connection.execute(rows.CROWD)
    await life.connection.execute("UPDATE tasks SET status = 'FAILED', waiting_since = NULL, completed_at = created_at")
    await life.connection.execute("INSERT INTO outbox (task_id) SELECT task_id FROM tasks ON CONFLICT DO NOTHING")
    for left in (1000, 0):
        await outbox.clear_ended(life.connection, 2000)
        assert await life.connection.one(int, "SELECT count(*) FROM outbox") == left


async def test_an_end_from_outside_is_notified_though_its_start_was_not_confirmed(life: Life) -> None:
    """The leader may have looked for the workflow in vain, a moment before it was started."""
    await life.create("ended")
    await cancel_task.cancel(life.connection, rows.CREATOR, "ended", None)
    await outbox.clear_ends(life.connection, ["ended"])
    await outbox.clear_ended(life.connection, ALL)
    assert await life.connection.all(str, "SELECT task_id FROM outbox_ends") == ["ended"]
