"""The event log: a reader skips nothing, in whatever order transactions commit, and what is written to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.db.nodes.drains import Drain
from infra.db.ops import alerts, event_log
from infra.db.ops.alerts import NewAlert
from infra.db.ops.event_log import BadCursor, Cursor, Event, Whose
from infra.db.session import Database
from infra.db.tasks import transitions as task_transitions
from infra.db.tasks.transitions import Cause
from infra.db.transactions import end_task, node_state
from infra.db.transactions.end_task import TaskEnd
from tests.db import rows
from tests.db.sessions import Sessions
from workflows.domain.alert import AlertLevel
from workflows.domain.attempt import Outcome
from workflows.domain.event import EventType
from workflows.domain.task import EndReason, TaskStatus

HELD_S = 3.0


@pytest.fixture
async def database(engine: Sessions, database: Database) -> AsyncIterator[Database]:
    """Empty before and after."""
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
    yield database
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


async def create(connection, task_id, **more) -> None:
    await rows.task(connection, task_id, event_seq=1, **more)
    event = "INSERT INTO task_events (task_id, seq, to_status, actor) VALUES (%(t)s, 1, 'QUEUED', 'test')"
    await connection.execute(event, {"t": task_id})


async def start(connection, task_id) -> bool:
    return await task_transitions.start(connection, Cause(task_id, 1, "g", "test", None), 0.0)


async def end(connection, task_id) -> bool:
    cause = Cause(task_id, 1, "g", "test", "why")
    return await task_transitions.end(connection, TaskStatus.PROCESSING, TaskStatus.FAILED, cause)


class Reader:
    """A reader that goes on from where it was."""

    def __init__(self, database: Database, **asked) -> None:
        self._database = database
        self._asked = asked
        self.cursor: Any = None
        self.events: list[Event] = []

    async def read(self) -> list[str]:
        """Read the new events, and return the ids of their tasks."""
        page = await self._database.single(lambda c: event_log.read(c, self.cursor, **self._asked))
        self.cursor = page.until
        self.events += page.events
        return [event.task_id or "" for event in page.events]


async def test_a_transaction_that_is_held_open_is_not_skipped(database, engine):
    """Its number and its event's id are lower than those of what commits before it."""
    reader = Reader(database, limit=2)
    await database.run(lambda c: create(c, "before"))
    async with engine.begin() as held:
        await create(held, "held")
        until, numbers = time.monotonic() + HELD_S, iter(range(10**6))
        made = 0
        while time.monotonic() < until:
            await database.run(lambda c: create(c, f"t{next(numbers):06}"))
            made += 1
            assert set(await reader.read()) <= {"before"}
    while await reader.read():
        pass
    read = [event.task_id for event in reader.events]
    assert read == ["before", "held", *(f"t{number:06}" for number in range(made))]
    assert len({(event.xid, event.id) for event in reader.events}) == made + 2


async def test_a_transaction_that_began_first_writes_behind_what_it_waited_for(database, engine):
    """It has the lower number, and its event is the later one of the two of the task."""
    await database.run(lambda c: create(c, "t"))
    reader = Reader(database)
    async with engine.begin() as first:
        await create(first, "other")  # it has its number now
        await database.run(lambda c: start(c, "t"))
        await end(first, "t")
    await reader.read()
    of_task = [event.data["seq"] for event in reader.events if event.task_id == "t"]
    assert of_task == [1, 2, 3]


async def test_what_is_rolled_back_has_never_happened(database, engine):
    async with engine.connect() as other:
        await create(other, "never")
        await other.rollback()
    assert await Reader(database).read() == []


async def test_the_life_of_a_task(life):
    await life.node("g", [1])
    await life.create("t", claims_slot=True)
    await start(life.connection, "t")
    await life.end("t", Outcome.FAILED)
    await life.do("UPDATE tasks SET waiting_since = clock_timestamp() WHERE task_id = 't'")
    how = TaskEnd(EndReason.CANCELLED, "test", "任务已取消")
    assert await end_task.end_waiting(life.connection, ["t"], how) == ["t"]
    logged = await life.connection.rows("SELECT * FROM event_log WHERE task_id = 't' ORDER BY xid, id")
    assert [row.type for row in logged] == ["task.created", "task.started", "task.retried", "task.ended"]
    assert [row.data.pop("seq") for row in logged] == [1, 2, 3, 4]
    assert logged[1].data == {"status": "PROCESSING", "attempt": 1, "taskType": 1}
    assert logged[3].data == {"status": "FAILED", "taskType": 1, "endReason": "CANCELLED"}
    timeline = await life.connection.rows("SELECT at FROM task_events WHERE task_id = 't' ORDER BY seq")
    assert [row.at for row in logged] == [row.at for row in timeline]


async def test_a_completed_task_says_so(life):
    await life.node("g", [1])
    await life.create("t", claims_slot=True)
    await start(life.connection, "t")
    await life.end("t")
    last = "SELECT data->>'endReason' FROM event_log WHERE type = 'task.ended'"
    assert await life.scalar(last) == "COMPLETED"


async def test_the_life_of_a_node(life):
    await life.node("g", [1])
    for step in (
        node_state.drain(life.connection, "g", Drain("somebody", "maintenance", None)),
        node_state.drain(life.connection, "g", Drain("somebody", "more of it", None)),
        node_state.undrain(life.connection, "g"),
        node_state.fault(life.connection, "g", "too hot"),
        node_state.recover(life.connection, "g"),
    ):
        await step
    await life.do("UPDATE gpus SET status = 'OFFLINE'")
    await node_state.come_back(life.connection, "g")
    await life.node("g", [1, 2])
    await node_state.deregister(life.connection, "g")
    logged = await life.connection.rows("SELECT type, data FROM event_log WHERE gpu_id = 'g' ORDER BY xid, id")
    assert [row.type.removeprefix("node.") for row in logged] == [
        "registered", "draining", "faulty", "recovered", "offline", "online", "registered", "gone"
    ]  # fmt: skip
    assert logged[1].data == {"status": "ACTIVE", "draining": True, "reason": "maintenance"}
    assert logged[2].data == {"status": "FAULTY", "draining": False, "reason": "too hot"}


async def test_an_alert_is_raised_once_and_acknowledged_once(life):
    alert = NewAlert("cause", "title", "message", AlertLevel.WARNING, "source")
    for _ in range(3):
        await alerts.raise_alert(life.connection, alert)
    seq = await life.scalar("SELECT seq FROM alerts")
    for _ in range(2):
        await alerts.acknowledge(life.connection, seq, "somebody")
    logged = await life.connection.rows("SELECT type, alert_id, data FROM event_log ORDER BY xid, id")
    assert [row.type for row in logged] == ["alert.raised", "alert.acknowledged"]
    assert {row.alert_id for row in logged} == {f"alert_{seq:03}"}
    assert logged[1].data["acknowledgedBy"] == "somebody"


async def test_users_read_their_own_and_what_their_key_created(database):
    await database.run(lambda c: create(c, "own", user_id="ann", flow="owner:ann", lineage="key_ann"))
    await database.run(lambda c: create(c, "for her", user_id="ann", lineage="key_app"))
    await database.run(lambda c: create(c, "of bob", user_id="bob", flow="owner:bob", lineage="key_ann"))
    await database.run(lambda c: rows.node(c, "g"))
    assert await Reader(database, whose=Whose("ann", "key_ann")).read() == ["own", "for her"]
    assert await Reader(database, whose=Whose("app", "key_app")).read() == ["for her"]
    assert await Reader(database, whose=Whose("ann", "key_app")).read() == ["own", "for her"]
    assert len(await Reader(database).read()) == 4


async def test_types_are_read_in_one_order(database):
    for number in range(3):
        await database.run(lambda c, number=number: create(c, f"t{number}"))
        await database.run(lambda c, number=number: start(c, f"t{number}"))
        await database.run(lambda c, number=number: rows.node(c, f"g{number}"))
    reader = Reader(database, limit=2, types=[EventType.NODE_REGISTERED, EventType.TASK_STARTED])
    while await reader.read():
        pass
    assert [event.task_id or event.gpu_id for event in reader.events] == ["t0", "g0", "t1", "g1", "t2", "g2"]
    assert await Reader(database, types=[EventType.NODE_GONE]).read() == []


async def test_a_cursor_that_means_nothing_here_starts_over(database):
    await database.run(lambda c: create(c, "t"))
    reader = Reader(database)
    await reader.read()
    right = reader.cursor
    for wrong in (Cursor("00000000", right.xid, right.id), Cursor(right.log, right.xid + 10**9, right.id)):
        page = await database.single(lambda c, wrong=wrong: event_log.read(c, wrong))
        assert page.is_reset
        assert [event.task_id for event in page.events] == ["t"]
    page = await database.single(lambda c: event_log.read(c, right))
    assert (page.is_reset, page.events, page.until >= right) == (False, [], True)


async def test_a_cursor_behind_what_was_cut_starts_over(database):
    reader = Reader(database, limit=1)
    for task_id in ("t0", "t1", "t2"):
        await database.run(lambda c, task_id=task_id: create(c, task_id))
        await reader.read()
    first, second, third = (Cursor(reader.cursor.log, event.xid, event.id) for event in reader.events)
    assert await database.run(lambda c: event_log.cut(c, second, 9)) == 2
    assert await database.run(lambda c: event_log.cut(c, first, 9)) == 0
    for cursor, is_reset in ((first, True), (second, False), (third, False), (None, False)):
        page = await database.single(lambda c, cursor=cursor: event_log.read(c, cursor))
        assert page.is_reset is is_reset
        assert [event.task_id for event in page.events] == ([] if cursor is third else ["t2"])


@pytest.mark.parametrize(
    "asked", [{"types": [EventType.NODE_GONE]}, {"whose": Whose("ann", "key_ann")}], ids=["types", "a user's"]
)
async def test_a_reader_that_is_up_to_date_is_not_cut_off(database, asked):
    """Only events that it does not ask for are forgotten: it has looked at those."""
    reader = Reader(database, **asked)
    for task_id in ("t0", "t1"):
        await database.run(lambda c, task_id=task_id: create(c, task_id, user_id="bob"))
        assert await reader.read() == []
    everything = await database.single(lambda c: event_log.read(c, None))
    await database.run(lambda c: event_log.cut(c, everything.of(everything.events[-1]), 99))
    assert not (await database.single(lambda c: event_log.read(c, reader.cursor, **asked))).is_reset
    await database.run(lambda c: create(c, "hers", user_id="ann"))
    await database.run(lambda c: rows.node(c, "g"))
    await database.run(lambda c: c.execute("UPDATE gpus SET status = 'OFFLINE', gone_at = clock_timestamp()"))
    await reader.read()
    assert len(reader.events) == 1


async def test_a_full_page_ends_with_its_last_event(database):
    for task_id in ("t0", "t1"):
        await database.run(lambda c, task_id=task_id: create(c, task_id))
    page = await database.single(lambda c: event_log.read(c, None, limit=1))
    assert page.until == page.of(page.events[0])


async def test_now_is_behind_everything(database, engine):
    await database.run(lambda c: create(c, "before"))
    reader = Reader(database)
    reader.cursor = await database.single(event_log.now)
    assert await reader.read() == []
    await database.run(lambda c: create(c, "after"))
    assert await reader.read() == ["after"]


async def test_the_events_of_one_task(database):
    for task_id in ("t", "other"):
        await database.run(lambda c, task_id=task_id: create(c, task_id))
    page = await database.single(lambda c: event_log.read_task(c, "t", None))
    assert [event.task_id for event in page.events] == ["t"]


@pytest.mark.parametrize(
    "text", ["", "5", "evt_", "evt_0000000_1_1", "evt_00000000_1", "evt_00000000_1_1 ", "evt_00000000_1_g"]
)
def test_a_malformed_cursor_is_refused(text):
    with pytest.raises(BadCursor):
        Cursor.of(text)


def test_a_cursor_is_its_text():
    cursor = Cursor("0a1b2c3d", 4711, 12)
    assert Cursor.of(str(cursor)) == cursor


async def test_a_page_is_cut_by_the_index_though_one_transaction_has_written_it_all(database):
    async def plan(connection) -> str:
        await connection.execute(
            "INSERT INTO event_log (xid, type, at, data) SELECT event_stamp(), 'task.created', clock_timestamp(), '{}'"
            " FROM generate_series(1, 20000)"
        )
        await connection.execute("ANALYZE event_log")
        values = {"xid": await connection.one(int, "SELECT max(xid) FROM event_log"), "id": 2**40, "page": 500}
        return "\n".join(await connection.all(str, f"EXPLAIN {event_log._CUT}", values))

    assert "Seq Scan on event_log " not in await database.run(plan)
