"""In what order the signals of a committed transaction are sent."""

from __future__ import annotations

import asyncio

import pytest

from infra.db.notifications import Granted, Notifications
from infra.notifier import HEAD_START_S
from infra.settings import Settings
from infra.temporal import FAILURES, Engine
from infra.temporal_access import EngineAway, connect
from tests.conftest import eventually
from workflows.messages import Grant, NodeSignal

NEVER_S = 60.0
GRANTED, ENDED = [Granted("next", Grant(1, "n"))], [("ended", 2), ("other", 1)]


class Recording(Engine):
    """An engine whose signals are noted with their time, and sent nowhere."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        super().__init__(engine.client, settings)
        self.sent: list[tuple[str, float]] = []

    def _note(self, name: str) -> None:
        self.sent.append((name, asyncio.get_running_loop().time()))

    async def tell(self, one: Granted) -> None:
        self._note(f"grant {one.task_id}")
        await asyncio.sleep(NEVER_S)  # until the dispatch is over

    async def settled(self, task_id: str, attempt: int) -> None:
        self._note(f"settled {task_id} {attempt}")

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        self._note(f"{name} {gpu_id}")

    async def has_sent(self, count: int) -> list[str]:
        """A number of signals, once they are sent."""

        async def names() -> list[str]:
            return [name for name, _ in self.sent] if len(self.sent) >= count else []

        return list(await eventually(names, within=5))


@pytest.fixture
async def engine() -> Recording:
    settings = Settings(temporal_address="127.0.0.1:9")  # nobody listens there, and nobody is called
    return Recording(Engine(await connect(settings), settings), settings)


async def test_an_engine_that_does_not_answer_is_away(engine: Recording) -> None:
    """A creation then claims no slot: nobody would dispatch to it."""
    for _ in range(FAILURES):
        assert not engine.away
        with pytest.raises(EngineAway):
            await Engine.settled(engine, "ended", 1)
    assert engine.away


async def test_a_grant_is_under_way_at_once_and_has_a_head_start(engine: Recording) -> None:
    await engine.deliver(Notifications(GRANTED, ENDED, [("n", "fault", 1)]), but="other")
    assert [name for name, _ in engine.sent] == ["grant next"]
    assert await engine.has_sent(3) == ["grant next", "settled ended 2", "fault n"]
    assert engine.sent[1][1] - engine.sent[0][1] >= HEAD_START_S * 0.9  # the loop's clock ticks


@pytest.mark.parametrize("notifications", [Notifications(settled=ENDED), Notifications(GRANTED), Notifications(GRANTED, [("other", 1)])])
async def test_nobody_waits_where_only_one_kind_is_to_be_told(
    engine: Recording, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.notifier.HEAD_START_S", NEVER_S)
    await engine.deliver(notifications, but="other")
    assert engine.sent


async def test_a_signal_that_fails_keeps_no_other_from_being_sent(
    engine: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise EngineAway

    monkeypatch.setattr(engine, "tell", fail)
    await engine.deliver(Notifications(GRANTED, ENDED), but="other")
    assert await engine.has_sent(1) == ["settled ended 2"]


async def test_what_has_to_wait_is_sent_before_the_end(engine: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.notifier.HEAD_START_S", 0.1)

    async def told(*_: object) -> None:
        pass

    monkeypatch.setattr(engine, "tell", told)
    await engine.deliver(Notifications(GRANTED, ENDED), but="other")
    await engine.close()
    assert [name for name, _ in engine.sent] == ["settled ended 2"]
