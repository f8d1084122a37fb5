"""Callers may invent any number of task types: what others read and write costs the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from infra.db.connection import Connection
from infra.db.ops import alerts, counters, health, kinds
from infra.db.queue.order import QueuePlace
from infra.db.repair import drift
from infra.db.slots import capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.tasks.new_task import NO_BOUNDS
from infra.db.transactions import create_batch
from infra.db.transactions.create_batch import Entry
from infra.metrics import fleet
from tests.db import rows
from tests.db.life import Life

T = TypeVar("T")

TYPES = 20_000
BOUND = 3_000
"""Rows that a read may fetch."""
INVENTED = f"""
    INSERT INTO counters (counter, key, n)
    SELECT counter, 1000 + n || ' ' || status, 1 FROM generate_series(1, {TYPES}) n
     CROSS JOIN unnest(ARRAY['tasks', 'user:u', 'group:g', 'user_group:1:u g']) AS whose(counter)
     CROSS JOIN unnest(ARRAY['QUEUED', 'COMPLETED']) AS statuses(status)
"""


class Counted:
    """Counts the rows that connections fetch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        every = Connection.all

        async def counted(connection: Connection, row: type[T], statement: str, *values: Any) -> list[T]:
            found = await every(connection, row, statement, *values)
            self.rows += len(found)
            return found

        monkeypatch.setattr(Connection, "all", counted)


@pytest.fixture
async def many(life: Life) -> Life:
    """A user's tasks of 20,000 types, one QUEUED and one COMPLETED of each; a node of the last of these types."""
    await life.do("TRUNCATE counters")
    await life.do(INVENTED)
    await life.node("n", [1000 + TYPES])
    return life


async def bounded(monkeypatch: pytest.MonkeyPatch, life: Life, work: Callable[[Connection], Awaitable[T]]) -> T:
    counted = Counted(monkeypatch)
    found = await work(life.connection)
    assert 0 < counted.rows < BOUND
    return found


async def test_health_and_overview(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    state = await bounded(monkeypatch, many, lambda c: health.read(c, 10.0))
    assert (state.tasks["QUEUED"], state.tasks["COMPLETED"], state.unfinished) == (TYPES, TYPES, TYPES)
    assert state.queues == {str(1000 + TYPES): 1, "other": TYPES - 1}


async def test_a_scrape(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = await bounded(monkeypatch, many, lambda c: fleet.read(c, 10.0))
    assert shown.counts.tasks[None, "QUEUED"] == TYPES - 1
    assert shown.oldest_s[None] == 0


async def test_the_oldest_of_types_without_a_count_of_their_own_is_seen(many: Life) -> None:
    await rows.task(many.connection, "old", task_type=7, waiting_since=rows.Sql("clock_timestamp() - interval '1 h'"))
    assert (await fleet.read(many.connection, 10.0)).oldest_s[None] >= 3600


async def test_a_batch(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    task = rows.new_task("t", 5, user_id="v")
    entries = [Entry(task, NO_BOUNDS, 1.0, await capacity.read(many.connection, Wanted(5, vip=True)))]
    pieces = create_batch.written([(task, NO_BOUNDS)])

    async def create(connection: Connection) -> object:
        return await create_batch.create(connection, entries, pieces, by=rows.CREATOR, max_waiting=1)

    await bounded(monkeypatch, many, create)


async def test_a_single_creation_behind_a_long_queue(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await rows.crowd(many.connection)
    outlook = Outlook(await capacity.read(many.connection, Wanted(1, vip=True)))
    await bounded(monkeypatch, many, lambda c: outlook.wait_s(c, 1, QueuePlace.of_new(0, 2999.5)))


async def test_alerts(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await alerts.page(many.connection, {}, limit=9, offset=0) == ([], 0)
    counted = Counted(monkeypatch)
    await alerts.page(many.connection, {}, limit=9, offset=0)
    assert counted.rows < 10


async def test_the_counts_of_their_user_and_group(many: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    own, rest = {(1000 + TYPES, "QUEUED"): 1, (1000 + TYPES, "COMPLETED"): 1}, TYPES - 1
    wanted = own | {(None, "QUEUED"): rest, (None, "COMPLETED"): rest}
    assert await bounded(monkeypatch, many, lambda c: counters.tasks_by_kind(c, user_id="u")) == wanted
    assert await counters.of_group(many.connection, "g", "u") == wanted
    assert await counters.of_group(many.connection, "g", None) == wanted
    asked = await counters.tasks_by_kind(many.connection, user_id="u", task_type=1001)
    assert counters.matching(asked, status="QUEUED", task_type=1001) == 1
    assert counters.matching(asked, status=None, task_type=None) == 2 * TYPES
    assert await counters.queued_of(many.connection, ["u", "nobody"]) == {"u": TYPES}


@pytest.mark.parametrize("folds", [True, False])
async def test_the_counts_are_the_same_with_few_and_with_many(
    life: Life, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    """Through creation, transition and deletion: the sums follow, and those of nothing go."""
    await life.do("TRUNCATE counters")
    await life.node("n", [-2])

    async def compare() -> None:
        if folds:
            await counters.fold(life.connection)
            assert await life.connection.all(counters.Count, counters.SUMS_WRONG) == []
        few = await counters.tasks_by_kind(life.connection, user_id="u")
        monkeypatch.setattr(kinds, "MOST", 0)
        many = await counters.tasks_by_kind(life.connection, user_id="u")
        monkeypatch.undo()
        for status in ("QUEUED", "FAILED"):
            for task_type in (None, -2):
                of = {"status": status, "task_type": task_type}
                assert counters.matching(few, **of) == counters.matching(many, **of), of  # type: ignore[arg-type]

    for number in range(6):
        await rows.task(life.connection, f"t{number}", task_type=number % 3 - 2, group_id="g")
    await compare()
    await life.do("UPDATE tasks SET status = 'FAILED', completed_at = clock_timestamp() WHERE task_type < 0")
    await compare()
    await life.do("DELETE FROM tasks WHERE task_type = -2")
    await compare()
    await life.do("DELETE FROM tasks")
    await compare()
    await counters.fold(life.connection)
    left = "SELECT counter || ' ' || key FROM counters WHERE counter NOT IN ('gpus', 'alerts')"
    assert await life.connection.all(str, left) == []


async def test_a_wrong_sum_is_found_and_corrected(life: Life) -> None:
    await life.do("TRUNCATE counters")
    await rows.task(life.connection, "t")
    await counters.fold(life.connection)
    await life.do("UPDATE counters SET n = 5 WHERE counter = 'sum:tasks'")
    assert await counters.recount(life.connection) == ["sum:tasks QUEUED: -4"]
    assert await counters.recount(life.connection) == []


async def test_unserved_types(life: Life) -> None:
    """All types that a node had are looked at, and some of those that are invented."""
    known = 10 * drift.MOST_UNSERVED
    await life.node("n", [known])
    await life.do("UPDATE gpus SET gone_at = clock_timestamp()")
    await life.do(rows.CROWD.replace("'t' || n, 1,", "'t' || n, n,"))
    await rows.task(life.connection, "known", task_type=known, waiting_since=rows.NOW)
    found = await drift.unserved(life.connection)
    assert found[0].task_type == known
    assert drift.MOST_UNSERVED < len(found) <= 2 * drift.MOST_UNSERVED + 1


async def test_the_type_of_an_old_task_is_looked_at_whatever_others_invent(life: Life) -> None:
    await rows.task(life.connection, "old", task_type=10**6, waiting_since=rows.NOW)
    await life.do(rows.CROWD.replace("'t' || n, 1,", "'t' || n, n,"))
    assert 10**6 in [one.task_type for one in await drift.unserved(life.connection)]
