"""The order in which the notifications of a committed transaction are sent."""

from __future__ import annotations

import asyncio

import pytest

from infra.settings import Settings
from infra.temporal.access import TemporalAway, connect
from infra.temporal.gateway import TemporalGateway
from infra.temporal.reachability import FAILURES
from tests.conftest import eventually
from workflows.messages import Grant, NodeSignal, TaskInput
from workflows.notifications import ClosedAttempt, Granted, NodeEvent, Notifications

GRANTS = [Granted(TaskInput("next", 1, "u", "a", 1, 1000, waits=True), Grant(1, "n"))]
CLOSED = [ClosedAttempt("ended", 2), ClosedAttempt("other", 1)]
NODES = [NodeEvent("n", "fault", 1)]


class Recording(TemporalGateway):
    """A gateway whose notifications are noted, and sent nowhere; grants hang until `heard`."""

    def __init__(self, gateway: TemporalGateway, settings: Settings) -> None:
        super().__init__(gateway.client, settings)
        self.sent: list[str] = []
        self.heard = asyncio.Event()

    async def grant(self, one: Granted) -> None:
        self.sent.append(f"grant {one.task.task_id}")
        await self.heard.wait()

    async def settled(self, task_id: str, attempt: int) -> None:
        self.sent.append(f"settled {task_id} {attempt}")

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        self.sent.append(f"{name} {gpu_id}")

    async def has_sent(self, count: int) -> list[str]:
        """A number of notifications, once they are sent."""

        async def names() -> list[str]:
            return self.sent if len(self.sent) >= count else []

        return list(await eventually(names, within=5))


@pytest.fixture
async def gateway() -> Recording:
    settings = Settings(temporal_address="127.0.0.1:9")  # nobody listens there, and nobody is called
    return Recording(TemporalGateway(await connect(settings), settings), settings)


async def test_a_gateway_that_does_not_answer_is_away(gateway: Recording) -> None:
    """A creation then claims no slot: nobody would dispatch to it."""
    for _ in range(FAILURES):
        assert not gateway.away
        with pytest.raises(TemporalAway):
            await TemporalGateway.settled(gateway, "ended", 1)
    assert gateway.away


async def test_a_grant_is_under_way_at_once_and_the_others_follow_it(gateway: Recording) -> None:
    await gateway.deliver(Notifications(GRANTS, CLOSED, NODES), but="other")
    assert gateway.sent == ["grant next"]
    gateway.heard.set()
    assert await gateway.has_sent(3) == ["grant next", "settled ended 2", "fault n"]


@pytest.mark.parametrize("one", [Notifications(closed=CLOSED), Notifications(GRANTS), Notifications(nodes=NODES)])
async def test_what_comes_alone_is_sent_at_once(gateway: Recording, one: Notifications) -> None:
    await gateway.deliver(one, but="other")
    assert len(await gateway.has_sent(1)) == 1
    gateway.heard.set()


async def test_nothing_to_send_begins_nothing(gateway: Recording) -> None:
    others_ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(others_ran.set)
    await gateway.deliver(Notifications())
    assert not others_ran.is_set()


async def test_a_grant_that_fails_keeps_no_other_from_being_sent(
    gateway: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise TemporalAway

    monkeypatch.setattr(gateway, "grant", fail)
    await gateway.deliver(Notifications(GRANTS, CLOSED), but="other")
    assert await gateway.has_sent(1) == ["settled ended 2"]


async def test_what_is_under_way_is_sent_before_the_end(gateway: Recording) -> None:
    await gateway.deliver(Notifications(GRANTS, CLOSED), but="other")
    asyncio.get_running_loop().call_later(0.05, gateway.heard.set)
    await gateway.close()
    assert gateway.sent == ["grant next", "settled ended 2"]
