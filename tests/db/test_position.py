"""Places in a long queue: from milestones they are the same as counted one by one."""

from __future__ import annotations

import time

import pytest

from infra.db.queue import position
from infra.db.queue.order import Place
from infra.db.slots.forecast import COUNTED, LONG_S, MILESTONE_EVERY, Forecast
from tests.db.one_connection import OneConnection
from tests.db.sessions import Session

FILL = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                       max_retries, queue_rank, waiting_since)
    SELECT 't' || i, 1 + i %% 2, 'QUEUED', 'u', 'a', 1, (i %% 10 = 0)::int, '{}', 1, 0, i / 5, clock_timestamp()
      FROM generate_series(1, 3000) i
    """
LAST = "SELECT queue_class, queue_rank AS rank, display_id FROM tasks WHERE task_id = 't2999'"
WAITING = (
    "SELECT queue_class, queue_rank AS rank, display_id FROM tasks"
    " WHERE task_type = ANY (%(pool)s) AND waiting_since IS NOT NULL"
)


@pytest.mark.parametrize("pool", [[1], [1, 2], [1, 2, 3]])
async def test_every_place_is_told_exactly(connection: Session, pool: list[int]) -> None:
    await connection.execute(FILL)
    rows = await connection.all(Place, WAITING, {"pool": pool})
    ordered = sorted(rows, key=lambda place: (-place.queue_class, place.rank, place.display_id))
    forecast = Forecast(OneConnection(connection))
    some = [*range(0, len(ordered), 97), *range(COUNTED - 2, COUNTED + 3), len(ordered) - 1]
    for number in some:
        assert await forecast.ahead(ordered[number], pool) == number
    assert await forecast.ahead(Place(0, 1e9, 0), pool) == len(ordered)
    assert await forecast.ahead(Place(2, 0.0, 0), pool) == 0


@pytest.mark.parametrize("pool", [[1], [1, 2, 3]])
async def test_from_milestones_alone_a_place_is_told_roughly(connection: Session, pool: list[int]) -> None:
    await connection.execute(FILL)
    rows = await connection.all(Place, WAITING, {"pool": pool})
    ordered = sorted(rows, key=lambda place: (-place.queue_class, place.rank, place.display_id))
    forecast = Forecast(OneConnection(connection))
    assert await forecast.milestones(pool) is None  # nothing says that it is worth the reading
    forecast.found_long(pool)
    found = await forecast.milestones(pool)
    assert found is not None
    off = MILESTONE_EVERY / 2 * len(pool) + 1
    for number in range(0, len(ordered), 29):
        place = ordered[number]
        assert abs(sum(one.about(place) for one in found.values()) - number) <= off
    assert [one.about(Place(2, 0.0, 0)) for one in found.values()] == [0] * len(pool)


async def test_a_queue_is_long_only_for_a_while(connection: Session) -> None:
    database = OneConnection(connection)
    forecast = Forecast(database)
    forecast.found_long([1])
    assert await forecast.milestones([1, 2]) is not None
    assert await forecast.milestones([2, 3]) is None
    forecast._long.expire(time.monotonic() + LONG_S + 1)
    assert await forecast.milestones([1, 2]) is None


async def test_many_reads_share_the_milestones(connection: Session) -> None:
    await connection.execute(FILL)
    database = OneConnection(connection)
    forecast = Forecast(database)
    for _ in range(10):
        assert await forecast.ahead(Place(0, 1e9, 0), [1]) == 1500
    assert database.reads <= 10 * 2 + 2  # one more second may begin on the way


async def test_what_leaves_behind_a_milestone_is_seen_at_once(connection: Session) -> None:
    await connection.execute(FILL)
    forecast = Forecast(OneConnection(connection))
    last = await connection.one(Place, LAST)
    before = await forecast.ahead(last, [1, 2])
    await connection.execute("UPDATE tasks SET waiting_since = NULL WHERE task_id = 't2998'")
    assert await forecast.ahead(last, [1, 2]) == before - 1
    assert await position.ahead(connection, last, [1, 2], limit=None) == before - 1
