"""Messages to a destination of NOTIFY: each alert once, with its end, in few messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from infra.db.nodes import transitions as node_transitions
from infra.db.ops import alert_ends, alert_messages, alerts
from infra.db.ops.alert_messages import DueMessage
from infra.db.ops.alerts import NewAlert
from infra.db.session import Database
from infra.db.transactions import node_state
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from tests.db.sessions import Session, Sessions
from workflows.domain.alert import AlertLevel

HOUR = 3600.0


@pytest.fixture
async def database(engine: Sessions, database: Database) -> AsyncIterator[Database]:
    """Empty before and after."""
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)
    yield database
    async with engine.begin() as connection:
        await connection.execute(rows.EMPTY)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_messages, "TOGETHER_S", 0.0)
    monkeypatch.setattr(alert_messages, "PAUSE_S", 0.0)


def alert(cause: str, level: AlertLevel = AlertLevel.WARNING, **more: bool) -> NewAlert:
    return NewAlert(cause, f"title of {cause}", "text", level, "test", **more)


class Reader:
    """A destination."""

    def __init__(self, database: Database, level: AlertLevel = AlertLevel.WARNING, name: str = "d") -> None:
        self._database = database
        self._level = level
        self._name = name

    async def take(self) -> DueMessage | None:
        return await self._database.run(lambda c: alert_messages.take(c, self._name, self._level))

    async def got(self) -> list[tuple[str, bool]]:
        """The next message: titles, and whether each is over."""
        due = await eventually(self.take)
        await self._database.run(lambda c: alert_messages.sent(c, self._name, due))
        return [(one.title, one.is_over) for one in due.alerts]

    async def failed(self) -> bool:
        due = await eventually(self.take)
        given_up: bool = await self._database.run(lambda c: alert_messages.failed(c, self._name, due))
        return given_up


async def test_each_alert_is_sent_once_from_the_first_look_on(database: Database) -> None:
    await database.run(lambda c: alerts.raise_alert(c, alert("before")))
    reader = Reader(database)
    assert await reader.take() is None
    for cause in ("a", "b", "a"):
        await database.run(partial(alerts.raise_alert, alert=alert(cause)))
    assert await reader.got() == [("title of a", False), ("title of b", False)]
    assert await reader.take() is None


async def test_a_level_and_what_is_above_it(database: Database) -> None:
    critical, everything = Reader(database, AlertLevel.CRITICAL, "c"), Reader(database, AlertLevel.INFO, "e")
    assert [await one.take() for one in (critical, everything)] == [None, None]
    for level in AlertLevel:
        await database.run(partial(alerts.raise_alert, alert=alert(level.lower(), level)))
    assert await critical.got() == [("title of critical", False)]
    assert len(await everything.got()) == 3


async def test_what_comes_and_goes_is_one_message_and_the_end_comes_once_more(database: Database) -> None:
    reader = Reader(database)
    await reader.take()
    await database.run(lambda c: alerts.raise_alert(c, alert("short")))
    await database.run(lambda c: alert_ends.end_others(c, "short"))
    await database.run(lambda c: alerts.raise_alert(c, alert("long")))
    assert await reader.got() == [("title of short", True), ("title of long", False)]
    await database.run(lambda c: alert_ends.end_others(c, "long"))
    await database.run(lambda c: alert_ends.end_others(c, "long"))
    assert await reader.got() == [("title of long", True)]
    await database.run(lambda c: alerts.raise_alert(c, alert("long")))
    assert await reader.got() == [("title of long", False)]


async def test_nobody_else_sends_what_is_being_sent(database: Database) -> None:
    reader = Reader(database)
    await reader.take()
    await database.run(lambda c: alerts.raise_alert(c, alert("a")))
    assert await eventually(reader.take)
    assert await Reader(database).take() is None


async def test_what_could_not_be_sent_comes_with_what_follows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_messages, "backoff_s", lambda _: 0.0)
    reader = Reader(database)
    await reader.take()
    await database.run(lambda c: alerts.raise_alert(c, alert("a")))
    assert not await reader.failed()
    await database.run(lambda c: alerts.raise_alert(c, alert("b")))
    assert await reader.got() == [("title of a", False), ("title of b", False)]


async def test_a_message_is_given_up_and_the_next_one_is_tried_as_often(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_messages, "backoff_s", lambda _: 0.0)
    reader = Reader(database)
    await reader.take()
    for cause in ("a", "b"):
        await database.run(partial(alerts.raise_alert, alert=alert(cause)))
        assert not await reader.failed()
        given_up = [await reader.failed() for _ in range(alert_messages.TRIES - 1)]
        assert given_up == [False] * (alert_messages.TRIES - 2) + [True]
    assert await reader.take() is None
    await database.run(lambda c: alerts.raise_alert(c, alert("c")))
    assert not await reader.failed()
    await database.run(lambda c: alerts.raise_alert(c, alert("d")))  # after the first message: it has tries of its own
    assert [await reader.failed() for _ in range(alert_messages.TRIES - 1)][-1]
    assert await reader.got() == [("title of d", False)]


async def test_a_place_moves_on_while_nothing_happens(database: Database, engine: Sessions) -> None:
    """Otherwise the log would be cut behind it, and it would skip what happens then."""
    reader = Reader(database)
    await reader.take()
    async with engine.begin() as session:
        before = await session.scalar("SELECT body ->> 'cursor' FROM monitor_reports WHERE name = 'notify:d'")
        assert await reader.take() is None
        assert before == await session.scalar("SELECT body ->> 'cursor' FROM monitor_reports WHERE name = 'notify:d'")
    async with engine.begin() as session:
        await session.execute("UPDATE monitor_reports SET at = at - interval '7 h' WHERE name = 'notify:d'")
    assert await reader.take() is None
    async with engine.begin() as session:
        assert before != await session.scalar("SELECT body ->> 'cursor' FROM monitor_reports WHERE name = 'notify:d'")
    await database.run(lambda c: alerts.raise_alert(c, alert("a")))
    assert await reader.got() == [("title of a", False)]


async def test_what_happens_within_seconds_is_one_message(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_messages, "TOGETHER_S", HOUR)
    reader = Reader(database)
    await reader.take()
    await database.run(lambda c: alerts.raise_alert(c, alert("a")))
    assert await reader.take() is None
    monkeypatch.setattr(alert_messages, "TOGETHER_S", 0.0)
    assert len(await reader.got()) == 1
    monkeypatch.setattr(alert_messages, "PAUSE_S", 30.0)
    await database.run(lambda c: alerts.raise_alert(c, alert("b")))
    assert len(await reader.got()) == 1
    await database.run(lambda c: alerts.raise_alert(c, alert("c")))
    assert await reader.take() is None


async def lasting(session: Session) -> list[str]:
    return await session.all(str, "SELECT cause FROM alerts WHERE resolved_at IS NULL ORDER BY cause")


async def end(session: Session) -> None:
    await alert_ends.end(session, 15.0)


async def test_a_nodes_alert_lasts_as_long_as_its_state(life: Life) -> None:
    session = life.connection
    for gpu_id in ("n1", "n2", "a:b"):
        await life.node(gpu_id, [1])
    await node_transitions.go_offline(session, "n1")
    await node_transitions.fault(session, "n2", "why")
    await life.create("t")
    await session.execute("UPDATE gpus SET rests = 1 WHERE gpu_id = 'a:b'")
    await alerts.raise_alert(session, alert("rest:FAILS:a:b"))
    await alerts.raise_alert(session, alert("miscounted", moment=True))
    await session.execute("UPDATE alerts SET resolved_at = NULL WHERE cause = 'miscounted'")  # of the previous version
    await end(session)
    assert await lasting(session) == ["fault:n2", "offline:n1", "rest:FAILS:a:b"]
    await node_state.recover(session, "n2")
    await session.execute("UPDATE gpus SET rests = 0 WHERE gpu_id = 'a:b'")
    await end(session)
    assert await lasting(session) == ["offline:n1"]
    await session.execute("UPDATE gpus SET gone_at = clock_timestamp() WHERE gpu_id = 'n1'")
    await end(session)
    assert await lasting(session) == []
    statuses = await session.all(str, "SELECT DISTINCT status FROM alerts")
    assert statuses == ["ACTIVE"]  # until somebody acknowledges them


async def test_a_moment_is_over_though_it_was_raised_by_the_version_before(life: Life) -> None:
    session = life.connection
    await alerts.raise_alert(session, alert("moment"))
    assert await lasting(session) == ["moment"]
    await alerts.raise_alert(session, alert("moment", moment=True))
    assert await lasting(session) == []


async def test_an_acknowledged_alert_that_happens_again_within_the_hour_stays_over(life: Life) -> None:
    session = life.connection
    await alerts.raise_alert(session, alert("a", lasts=True))
    seq = await session.scalar("SELECT seq FROM alerts")
    await alerts.acknowledge(session, seq, "me")
    assert await lasting(session) == ["a"]
    await alert_ends.end_others(session, "a")
    assert not await alerts.raise_alert(session, alert("a", lasts=True))
    assert await lasting(session) == []
