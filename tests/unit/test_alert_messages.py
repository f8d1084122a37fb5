"""Each destination is sent to by itself: one that hangs holds up neither the others nor the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from infra.alert_messages import apprise
from infra.alert_messages.message import AlertChange
from infra.alert_messages.threads import aside
from infra.db.ops import alert_ends, alert_messages, alerts
from infra.db.ops.alert_messages import DestinationPlace, DueMessage
from infra.db.ops.alerts import NewAlert
from infra.db.session import Database
from infra.environment import destinations
from tests.conftest import eventually
from workers.leader.alert_messages import AlertMessages
from workflows.domain.alert import AlertLevel

SLOW, FAST = destinations.parse("json://127.0.0.1:9/slow json://127.0.0.1:9/fast")
DUE = DueMessage([AlertChange("alert_001", AlertLevel.WARNING, "t", "m", False)], DestinationPlace("cursor"))


class NoDatabase:
    """Runs what it is given, without a connection."""

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(None)


class Recorder:
    """A record of the messages that are sent and noted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.noted: list[tuple[str, str]] = []
        self.raised: list[NewAlert] = []
        self.hold = threading.Event()
        self.accepts = True
        self.gives_up = False

    def send(self, url: str, _: object) -> bool:
        self.begun.append(url)
        if url == SLOW.url:
            assert self.hold.wait(60)
        return self.accepts

    async def take(self, *_: object) -> DueMessage:
        return DUE

    async def sent(self, _: object, digest: str, __: object) -> None:
        self.noted.append(("sent", digest))

    async def failed(self, _: object, digest: str, __: object) -> bool:
        self.noted.append(("failed", digest))
        return self.gives_up

    async def raise_alert(self, _: object, alert: NewAlert) -> None:
        self.raised.append(alert)

    async def end_others(self, _: object, kind: str, lasting: list[str]) -> None:
        self.noted.append((f"over {kind}", *lasting))  # type: ignore[arg-type]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(apprise, "send", found.send)
    for name in ("take", "sent", "failed"):
        monkeypatch.setattr(alert_messages, name, getattr(found, name))
    monkeypatch.setattr(alerts, "raise_alert", found.raise_alert)
    monkeypatch.setattr(alert_ends, "end_others", found.end_others)
    return found


def messages(*to: destinations.Destination) -> AlertMessages:
    return AlertMessages(cast(Database, NoDatabase()), to)


async def noted(recorder: Recorder, number: int) -> list[tuple[str, str]]:
    async def enough() -> list[tuple[str, str]]:
        return recorder.noted if len(recorder.noted) >= number else []

    return list(await eventually(enough))


async def test_one_that_hangs_gets_no_second_try_and_holds_up_no_other(recorder: Recorder) -> None:
    sending = messages(SLOW, FAST)
    for number in range(1, 7):
        await sending.send()
        await noted(recorder, 2 * number)
    assert recorder.begun.count(SLOW.url) == 1
    assert recorder.begun.count(FAST.url) == 6
    recorder.hold.set()  # it was slow, and no failure

    async def is_sent() -> bool:
        return ("sent", SLOW.digest) in recorder.noted

    assert await eventually(is_sent)
    assert recorder.begun.count(SLOW.url) == 1


async def test_an_accepted_message_ends_its_own_alert_and_those_of_urls_that_are_gone(recorder: Recorder) -> None:
    await messages(FAST, SLOW).send()
    assert await noted(recorder, 2) == [("sent", FAST.digest), ("over notify:", f"notify:{SLOW.digest}")]
    recorder.hold.set()
    await noted(recorder, 4)


async def test_a_message_that_is_given_up_raises_an_alert_without_the_url(recorder: Recorder) -> None:
    recorder.accepts = False
    await messages(FAST).send()
    assert await noted(recorder, 1) == [("failed", FAST.digest)]
    assert not recorder.raised
    recorder.gives_up = True
    await messages(FAST).send()
    await noted(recorder, 2)
    (raised,) = recorder.raised
    assert raised.cause == f"notify:{FAST.digest}"
    assert "NOTIFY URL 2 (json://…)" in raised.message
    assert "fast" not in raised.message


def test_the_end_of_the_process_waits_for_no_receiver() -> None:
    code = """
import asyncio, time
from infra.alert_messages.threads import aside

async def main():
    task = asyncio.create_task(aside(lambda: time.sleep(600)))
    await asyncio.sleep(0)
    task.cancel()

asyncio.run(main())
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stderr == ""


async def test_aside_raises_what_the_call_raises() -> None:
    def fail() -> None:
        raise OSError("why")

    with pytest.raises(OSError, match="why"):
        await asyncio.wait_for(aside(fail), 10)
