"""Places in a long queue: from milestones they are the same as counted one by one."""

from __future__ import annotations

import time

import pytest

from infra.db.queue import listing, position
from infra.db.queue.order import QueuePlace
from infra.db.queue.position import COUNTED
from infra.db.slots.eligibility import Wanted
from infra.db.slots.forecast import LONG_S, MILESTONE_EVERY, Forecast
from tests.db import rows
from tests.db.one_connection import OneConnection
from tests.db.sessions import Session

FILL = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                       max_retries, queue_rank, waiting_since)
    SELECT 't' || i, 1 + i %% 2, 'QUEUED', 'u', 'a', 1, (i %% 10 = 0)::int, '{}', 1, 0, i / 5, clock_timestamp()
      FROM generate_series(1, 3000) i
    """
LAST = "SELECT queue_class, queue_rank, display_id FROM tasks WHERE task_id = 't2999'"
WAITING = (
    "SELECT queue_class, queue_rank, display_id FROM tasks"
    " WHERE task_type = ANY (%(pool)s) AND waiting_since IS NOT NULL"
)


@pytest.mark.parametrize("pool", [[1], [1, 2], [1, 2, 3]])
async def test_every_place_is_counted_exactly(connection: Session, pool: list[int]) -> None:
    await connection.execute(FILL)
    rows = await connection.all(QueuePlace, WAITING, {"pool": pool})
    ordered = sorted(rows, key=lambda place: (-place.queue_class, place.queue_rank, place.display_id))
    forecast = Forecast(OneConnection(connection))
    some = [*range(0, len(ordered), 97), *range(COUNTED - 2, COUNTED + 3), len(ordered) - 1]
    for number in some:
        assert await forecast.ahead(ordered[number], pool) == number
    assert await forecast.ahead(QueuePlace(0, 1e9, 0), pool) == len(ordered)
    assert await forecast.ahead(QueuePlace(2, 0.0, 0), pool) == 0


@pytest.mark.parametrize("pool", [[1], [1, 2, 3]])
async def test_from_milestones_alone_a_place_is_estimated(connection: Session, pool: list[int]) -> None:
    await connection.execute(FILL)
    rows = await connection.all(QueuePlace, WAITING, {"pool": pool})
    ordered = sorted(rows, key=lambda place: (-place.queue_class, place.queue_rank, place.display_id))
    forecast = Forecast(OneConnection(connection))
    found = await forecast._milestones_of(pool)
    off = MILESTONE_EVERY / 2 * len(pool) + 1
    for number in range(0, len(ordered), 29):
        place = ordered[number]
        assert abs(sum(one.about(place) for one in found.values()) - number) <= off
    assert [one.about(QueuePlace(2, 0.0, 0)) for one in found.values()] == [0] * len(pool)


async def test_counting_reads_the_queue_and_not_the_table(connection: Session) -> None:
    """The plan believes that those that wait are all over the table; they are its last rows."""
    await connection.execute(FILL.replace("3000", "50000"))
    await connection.execute("ANALYZE tasks")
    values = {**(await connection.one(QueuePlace, LAST)).__dict__, "pool": [1, 2], "limit": COUNTED}
    plan = "\n".join(await connection.all(str, f"EXPLAIN {position._AHEAD}", values))
    assert ("Seq Scan" in plan, plan.count("ix_tasks_queue")) == (False, 2)


async def test_places_of_a_page_are_exact_near_the_head(connection: Session) -> None:
    await connection.execute(FILL)
    tasks = await listing.page(connection, [1, 2], limit=3000)
    found = await Forecast(OneConnection(connection)).places([1, 2], {one.task_id: one.place for one in tasks})
    for number, one in enumerate(tasks):
        ahead, is_exact = found[one.task_id]
        assert is_exact is (number < COUNTED)
        assert abs(ahead - number) <= (0 if is_exact else MILESTONE_EVERY + 1)


async def test_a_queue_is_long_only_for_a_while(connection: Session) -> None:
    """So is that of a type that shares a node with it."""
    for gpu_id, types in (("n", [1, 2]), ("m", [3])):
        await rows.node(connection, gpu_id, task_types=types)
    forecast = Forecast(OneConnection(connection))
    new = await forecast.for_new(Wanted(1, vip=False))
    assert new.milestones is None  # nothing says that they are worth the reading
    new.found_long()
    found = [await forecast.for_new(Wanted(kind, vip=False)) for kind in (1, 2, 3)]
    assert [one.milestones is None for one in found] == [False, False, True]
    forecast._long.expire(time.monotonic() + LONG_S + 1)
    assert (await forecast.for_new(Wanted(1, vip=False))).milestones is None


async def test_many_reads_share_the_milestones(connection: Session) -> None:
    await connection.execute(FILL)
    database = OneConnection(connection)
    forecast = Forecast(database)
    for _ in range(10):
        assert await forecast.ahead(QueuePlace(0, 1e9, 0), [1]) == 1500
    assert database.reads <= 10 * 2 + 2  # one more second may begin on the way


async def test_what_leaves_behind_a_milestone_is_seen_at_once(connection: Session) -> None:
    await connection.execute(FILL)
    forecast = Forecast(OneConnection(connection))
    last = await connection.one(QueuePlace, LAST)
    before = await forecast.ahead(last, [1, 2])
    await connection.execute("UPDATE tasks SET waiting_since = NULL WHERE task_id = 't2998'")
    assert await forecast.ahead(last, [1, 2]) == before - 1
    assert await position.ahead(connection, last, [1, 2], limit=None) == before - 1
