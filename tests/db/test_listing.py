"""The queue as people read it: in the order in which it runs, page after page."""

from __future__ import annotations

from infra.db.queue import listing
from infra.db.queue.order import HEAD, QueuePlace
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Session

FILL = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, flow, priority, queue_class, payload, timeout_ms,
                       max_retries, queue_rank, waiting_since)
    SELECT 't' || i, 1 + i %% 3, 'QUEUED', 'u' || i %% 2, 'a' || i %% 5, CASE WHEN i %% 7 = 0 THEN 'owner:u' END, 1,
           (i %% 10 = 0)::int, '{}', 1, 0, i / 5, clock_timestamp()
      FROM generate_series(1, 300) i
    """


async def pages(read):
    """All pages, one after the other."""
    found, after = [], HEAD
    while page := await read(after):
        found += page
        after = page[-1].place
    return found


async def test_pages_are_the_queue_in_its_order(connection: Session) -> None:
    await connection.execute(rows.EMPTY)
    await connection.execute(FILL)
    await rows.task(connection, "running", task_type=1, status="PROCESSING")
    for types in ([1], [1, 2, 3], [1, 3, 99]):
        found = await pages(lambda after: listing.page(connection, types, after, limit=7))  # noqa: B023
        assert len(found) == 100 * len({*types} & {1, 2, 3})
        assert found == sorted(found, key=lambda one: (-one.queue_class, one.queue_rank, one.display_id))


async def test_an_owner_sees_their_own_in_the_same_order(connection: Session) -> None:
    await connection.execute(rows.EMPTY)
    await connection.execute(FILL)
    everything = await pages(lambda after: listing.page(connection, [1, 2, 3], after, limit=50))
    own = await pages(lambda after: listing.page_of_owner(connection, "u1", [1, 2, 3], after, limit=7))
    assert own == [one for one in everything if one.user_id == "u1"]


async def test_the_flows_that_wait_are_found_in_their_index(life: Life) -> None:
    await life.connection.execute(FILL)
    await rows.task(life.connection, "old", task_type=1, app="promoted", queue_class=1, waiting_since=rows.NOW,
                    promoted_at=rows.NOW)  # fmt: skip
    found = await listing.flows(life.connection, [(1, 0), (2, 1), (9, 0)])
    assert found[1, 0] == [*(f"app:a{n}" for n in range(5)), "owner:u"]
    assert set(found[2, 1]) <= {"app:a0", "owner:u"}
    assert found.keys() == {(1, 0), (2, 1)}


async def test_no_row_is_sorted_that_is_not_shown(life: Life) -> None:
    await rows.crowd(life.connection)
    values = {**QueuePlace(1, 0.0, 5).__dict__, "task_types": [1, 2], "limit": 50}
    plan = "".join(await life.connection.all(str, f"EXPLAIN {listing._PAGE}", values))
    assert plan.count("ix_tasks_queue") == 2
    assert plan.count("Sort") <= 2  # of what the types have given, and its key
    plan = "".join(await life.connection.all(str, f"EXPLAIN {listing._FLOWS}", {"task_types": [1], "classes": [0]}))
    assert plan.count("ix_tasks_share") == 2
    assert "Seq Scan" not in plan
