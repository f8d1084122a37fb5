"""Many tasks at once: all or none, with the places that they would get one after the other, under a short lock."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from infra.db import locks
from infra.db.ops import counters
from infra.db.session import Database
from infra.db.slots import capacity, free_nodes
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.tasks import new_task
from infra.db.tasks.new_task import NO_BOUNDS, NewTask, TimeBounds
from infra.db.transactions import create_batch, create_task
from infra.db.transactions.create_batch import CreatedBatch, Entry
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Sessions
from workflows.domain.errors import DeadlinePassed, IdempotencyConflict, TooManyWaiting, WaitTooLong
from workflows.domain.queue_policy import QueuePolicy
from workflows.domain.task import USUAL_DURATION_S

MIXED = [(task_type, app, vip) for task_type in (1, 2, 7) for app in ("a", "b", "heavy") for vip in (False, True)]
WEIGHTS = {"heavy": 3.0}


def new(name: str, task_type: int = 1, app: str = "a", *, vip: bool = False, **more: Any) -> NewTask:
    return rows.new_task(name, task_type, app=app, priority=1 + vip, queue_class=int(vip), **more)


async def batch(
    connection: Any, tasks: list[NewTask], bounds: list[TimeBounds] | None = None, **options: Any
) -> CreatedBatch:
    bounds = bounds or [NO_BOUNDS] * len(tasks)
    seen = {one: await capacity.read(connection, Wanted(one, vip=True)) for one in {task.task_type for task in tasks}}
    entries = [
        Entry(task, bound, WEIGHTS.get(task.app, 1.0), seen[task.task_type])
        for task, bound in zip(tasks, bounds, strict=True)
    ]
    pieces = create_batch.written(list(zip(tasks, bounds, strict=True)))
    return await create_batch.create(connection, entries, pieces, by=rows.CREATOR, **options)


async def single(life: Life, task: NewTask) -> create_task.Created:
    outlook = Outlook(await capacity.read(life.connection, Wanted(task.task_type, vip=True)))
    weight = WEIGHTS.get(task.app, 1.0)
    return await create_task.create(life.connection, task, outlook, weight=weight, by=rows.CREATOR, claims_slot=False)


async def places(life: Life, prefix: str) -> list[tuple[float, int, int]]:
    statement = (
        "SELECT queue_rank, queue_class, estimated_wait_s FROM tasks"
        " WHERE starts_with(task_id, %(p)s) AND waiting_since IS NOT NULL ORDER BY display_id"
    )
    return [tuple(row) for row in await life.connection.rows(statement, {"p": prefix})]


@pytest.mark.parametrize("waiting", [0, 40])
async def test_the_places_are_those_of_single_creations(life: Life, waiting: int) -> None:
    """Types 1 and 2 share a node; flows, classes and weights are mixed; with and without a queue."""

    async def before() -> None:
        await life.do(rows.EMPTY)
        await life.node("n", [1, 2], slots=1)
        for number, (task_type, app, vip) in enumerate(itertools.islice(itertools.cycle(MIXED), 3, 3 + waiting)):
            await single(life, new(f"before{number}", task_type, app, vip=vip))

    await before()
    chosen = list(itertools.islice(itertools.cycle(MIXED[::-1] + MIXED[4:]), 120))
    for number, (task_type, app, vip) in enumerate(chosen):
        await single(life, new(f"t{number:03}", task_type, app, vip=vip))
    one_by_one = await places(life, "t")
    await life.connection.rollback()
    await before()
    await batch(life.connection, [new(f"t{n:03}", *one[:2], vip=one[2]) for n, one in enumerate(chosen)])
    assert await places(life, "t") == one_by_one
    assert len(one_by_one) == len(chosen)


async def test_its_rows_are_those_of_single_creations(life: Life) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    more: dict[str, Any] = {
        "payload": '{"密": "\\"\\\\x"}',
        "env": "prod",
        "group_id": "g",
        "deadline": soon,
        "traceparent": "00-1-2-01",
    }
    task = new("single", flow="owner:u", **more)
    await single(life, task)
    (created,) = (await batch(life.connection, [replace(task, task_id="batched")])).rows
    one, other = await life.task("single"), await life.task("batched")
    differ = {name for name in one._fields if getattr(one, name) != getattr(other, name)}
    assert differ == {"task_id", "display_id", "queue_rank", "waiting_since", "created_at", "updated_at"}
    assert (created.display_id, created.status, created.estimated_wait_s) == (other.display_id, "QUEUED", -1)
    for table, count in (("task_events", 2), ("outbox", 2), ("audit_log", 2)):
        assert await life.scalar(f"SELECT count(*) FROM {table}") == count
    audit = "SELECT subject, detail FROM audit_log WHERE action = 'task.batch'"
    ((subject, detail),) = await life.connection.rows(audit)
    assert (subject, detail) == ("batched", f"1 tasks, displayId {other.display_id} to {other.display_id}")


async def test_the_answers_are_in_order_however_many_statements_it_takes(life: Life, monkeypatch: Any) -> None:
    monkeypatch.setattr(create_batch, "PIECE", 400)
    created = (await batch(life.connection, [new(f"t{number}") for number in range(30)])).rows
    assert [one.task_id for one in created] == [f"t{number}" for number in range(30)]
    first = created[0].display_id
    assert [one.display_id for one in created] == list(range(first, first + 30))


async def test_the_key_covers_the_batch(life: Life) -> None:
    def tasks(name: str, count: int, key: str = "key", said: str = "hash") -> list[NewTask]:
        keys = [create_batch.key_of(key, number) for number in range(count)]
        return [new(f"{name}{n}", idempotency_key=one, request_hash=said) for n, one in enumerate(keys)]

    first = await batch(life.connection, tasks("t", 5))
    again = await batch(life.connection, tasks("x", 5))
    assert (first.is_new, again.is_new) == (True, False)
    assert [one.task_id for one in again.rows] == [one.task_id for one in first.rows]
    for other in (tasks("y", 5, said="other"), tasks("y", 4, said="other"), tasks("y", 6, said="other")):
        with pytest.raises(IdempotencyConflict):
            await batch(life.connection, other)
    with pytest.raises(IdempotencyConflict):
        await single(life, new("single", idempotency_key="key", request_hash="of a single task"))
    assert await life.scalar("SELECT count(*) FROM tasks") == 5


async def test_two_at_once_with_one_key_make_one_batch(engine: Sessions, database: Database) -> None:
    tasks = [new(f"twice{n}", idempotency_key=create_batch.key_of("twice", n), request_hash="h") for n in range(50)]
    other = [replace(task, task_id=f"again {task.task_id}") for task in tasks]
    made = await asyncio.gather(*(database.run(partial(batch, tasks=one)) for one in (tasks, other)))
    assert sorted(one.is_new for one in made) == [False, True]
    one, again = ([row.task_id for row in one.rows] for one in made)
    assert one == again
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


@pytest.mark.parametrize("equal", [True, False])
async def test_a_request_counts_that_a_program_without_the_lock_commits_meanwhile(
    engine: Sessions, monkeypatch: pytest.MonkeyPatch, equal: bool
) -> None:
    monkeypatch.setattr(locks, "request", AsyncMock())
    tasks = [new(f"t{n}", idempotency_key=create_batch.key_of("key", n), request_hash="h") for n in range(2)]
    earlier = tasks if equal else [replace(tasks[0], request_hash="of a single task")]
    async with engine.connect() as one, engine.connect() as other, engine.connect(autocommit=True) as third:
        await batch(one, earlier)
        second = asyncio.create_task(batch(other, [replace(task, task_id=f"again {task.task_id}") for task in tasks]))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        if equal:
            found = await second
            assert ([row.task_id for row in found.rows], found.is_new) == (["t0", "t1"], False)
        else:
            with pytest.raises(IdempotencyConflict):
                await second
        await other.rollback()
        await third.execute(rows.EMPTY)


async def test_a_single_creation_with_the_key_of_a_batch_waits_without_a_type_s_lock(engine: Sessions) -> None:
    """Otherwise each would wait for the other, and releases with them, until Postgres ends one."""
    async with engine.connect() as one, engine.connect() as other, engine.connect(autocommit=True) as third:
        await batch(one, [new("batched", idempotency_key="both", request_hash="h")])
        alone = new("alone", idempotency_key="both", request_hash="other")
        second = asyncio.create_task(single(Life(other), alone))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7110 AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        with pytest.raises(IdempotencyConflict):
            await second
        await other.rollback()
        await third.execute(rows.EMPTY)


async def test_a_flow_that_has_got_more_meanwhile_is_not_given_a_place_twice(engine: Sessions) -> None:
    """The second batch reads the queue before the first is committed, and waits for the lock of the type."""
    async with engine.connect() as one, engine.connect() as other, engine.connect(autocommit=True) as third:
        await batch(one, [new(f"one{n}") for n in range(3)])
        second = asyncio.create_task(batch(other, [new(f"two{n}") for n in range(3)]))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7101 AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        await second
        await other.commit()
        found = await third.all(float, "SELECT queue_rank FROM tasks ORDER BY display_id")
        assert found == [0, 1, 2, 3, 4, 5]
        await third.execute(rows.EMPTY)


async def test_the_cap_is_for_the_whole_batch(life: Life) -> None:
    await single(life, new("one"))
    with pytest.raises(TooManyWaiting):
        await batch(life.connection, [new(f"t{n}") for n in range(10)], max_waiting=10)
    await batch(life.connection, [new(f"t{n}", user_id="uv"[n % 2]) for n in range(19)], max_waiting=11)
    assert await counters.queued_of(life.connection, ["u"]) == {"u": 11}


async def test_a_fault_names_its_index(life: Life) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(DeadlinePassed, match=r"tasks\[2\]\.deadline 必须"):
        await batch(life.connection, [new(f"t{n}", deadline=past if n > 1 else None) for n in range(4)])
    with pytest.raises(WaitTooLong, match=r"tasks\[1\]\.maxWait") as refused:
        await batch(life.connection, [new("x"), new("y")], [NO_BOUNDS, TimeBounds(max_wait_s=5)])
    assert refused.value.retry_after_s == new_task.UNKNOWN_RETRY_S


async def test_free_slots_allow_no_wait_at_all(life: Life) -> None:
    await life.node("n", [1], slots=3)
    at_once = [TimeBounds(max_wait_s=0)] * 4
    with pytest.raises(WaitTooLong, match=r"tasks\[3\]"):
        await batch(life.connection, [new(f"t{n}") for n in range(4)], at_once)
    await life.do("DELETE FROM outbox")
    await life.do("DELETE FROM task_events")
    await life.do("DELETE FROM tasks")
    assert len((await batch(life.connection, [new(f"x{n}") for n in range(3)], at_once[:3])).rows) == 3
    with pytest.raises(WaitTooLong):
        await batch(life.connection, [new("z")], at_once[:1], claims_slot=False)


async def test_what_is_held_or_rests_is_no_free_slot(life: Life) -> None:
    await life.node("n", [1], slots=2)
    await life.node("rests", [1], slots=5)
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '30 s' WHERE gpu_id = 'rests'")
    await life.create("held", claims_slot=True)
    await life.do("UPDATE attempts SET outcome = 'TIMED_OUT', closed_at = clock_timestamp()")
    with pytest.raises(WaitTooLong, match=r"tasks\[1\]"):
        await batch(life.connection, [new("x"), new("y")], [TimeBounds(max_wait_s=0)] * 2)


async def test_two_batches_at_once_do_not_count_the_same_slots(engine: Sessions) -> None:
    bounds = [TimeBounds(max_wait_s=0)] * 3
    async with engine.connect() as one, engine.connect() as other, engine.connect(autocommit=True) as third:
        await Life(third).node("n", [1], slots=3)
        await batch(one, [new(f"one{n}") for n in range(3)], bounds)
        second = asyncio.create_task(batch(other, [new(f"two{n}") for n in range(3)], bounds))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7112 AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        with pytest.raises(WaitTooLong):
            await second
        await other.rollback()
        await third.execute(rows.EMPTY)


@pytest.mark.parametrize(("max_wait_s", "ahead"), [(0, 3), (USUAL_DURATION_S, 9)])
async def test_what_has_joined_while_the_rows_were_written_is_ahead(
    engine: Sessions, max_wait_s: int, ahead: int
) -> None:
    """The other batch has no `maxWait`, so only the locks of the types are common; it gets its slots later."""
    bounds = [TimeBounds(max_wait_s=max_wait_s)]
    async with engine.connect() as one, engine.connect() as other, engine.connect(autocommit=True) as third:
        await Life(third).node("n", [1], slots=3)
        await batch(one, [new(f"one{n}", vip=True) for n in range(ahead)])
        second = asyncio.create_task(batch(other, [new("two", app="b")], bounds))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7101 AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        with pytest.raises(WaitTooLong, match=r"tasks\[0\]"):
            await second
        await other.rollback()
        await third.execute(rows.EMPTY)


async def test_a_slot_that_is_taken_while_the_rows_are_written_is_free_no_more(
    engine: Sessions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single creation waits for a batch only once the batch takes the locks of its types."""
    take_locks = locks.types

    async def after_another(connection: Any, task_types: list[int]) -> None:
        async with engine.begin() as other:
            await Life(other).create("single", claims_slot=True)
        await take_locks(connection, task_types)

    async with engine.begin() as session:
        await session.execute(rows.EMPTY)
        await Life(session).node("n", [1], slots=3)
    monkeypatch.setattr(locks, "types", after_another)
    bounds = [NO_BOUNDS, TimeBounds(max_wait_s=0), TimeBounds(max_wait_s=0)]
    with pytest.raises(WaitTooLong, match=r"tasks\[2\]\.maxWait"):
        await database.run(partial(batch, tasks=[new(f"t{n}") for n in range(3)], bounds=bounds))
    async with engine.begin() as session:
        await session.execute(rows.EMPTY)


@pytest.mark.parametrize("strict", [False, True])
async def test_a_slot_of_a_vip_node_is_free_for_vip_tasks(life: Life, strict: bool) -> None:
    life.connection.policy = QueuePolicy(vip_nodes_strict=strict)
    await life.node("vip", [1], slots=3, serves="VIP")
    await life.node("other", [2], slots=3)
    await life.create("first", priority=2, claims_slot=True)
    asked = [Wanted(1, vip=True), Wanted(1, vip=False), Wanted(2, vip=False), Wanted(3, vip=True)]
    free = [await free_nodes.slots(life.connection, one) for one in asked]
    assert free == [2, 0 if strict else 2, 3, 0]
    await batch(life.connection, [new("t", vip=True)], [TimeBounds(max_wait_s=0)])


async def test_relative_limits_begin_with_the_batch(life: Life) -> None:
    await batch(life.connection, [new("t"), new("u")], [TimeBounds(expires_in_ms=60_000), NO_BOUNDS])
    left = "SELECT extract(epoch FROM expires_at - created_at)::float FROM tasks WHERE task_id = 't'"
    assert 59.9 < await life.scalar(left) < 60.1
    assert (await life.task("u")).expires_at is None


async def test_a_release_waits_for_a_moment_only(engine: Sessions, database: Database) -> None:
    """A thousand tasks with 8 KB each; a release takes the lock of their type shared, again and again.

    Alone on a machine a batch takes 300 ms, and a release may wait for 50 of them: that is compared, whatever the load.
    """
    waited: list[float] = []
    took: list[float] = []

    async def release() -> None:
        async with engine.connect(autocommit=True) as connection:
            while True:
                began = time.perf_counter()
                await connection.execute("SELECT pg_advisory_xact_lock_shared(7101, 1)")
                waited[-1] = max(waited[-1], time.perf_counter() - began)

    releases = asyncio.create_task(release())
    for turn in range(3):
        waited.append(0.0)
        tasks = [new(f"large{turn} {n}", payload="x" * 8000) for n in range(1000)]
        began = time.perf_counter()
        await database.run(partial(batch, tasks=tasks))
        took.append(time.perf_counter() - began)
    releases.cancel()
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
    assert min(held / whole for held, whole in zip(waited, took, strict=True)) < 1 / 6, (waited, took)
