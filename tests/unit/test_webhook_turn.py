"""A turn of a webhook: each try has its own outcome, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from activities import webhooks
from activities.webhooks import WebhookSteps
from infra.db.webhooks import due
from infra.db.webhooks.due import DueDelivery, WebhookTurn
from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from infra.webhooks import signing
from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.sender import ReceiverAnswer, Sender, Trouble
from infra.webhooks.tries import AT_HOST, OF_OWNER, Tries
from tests.conftest import eventually


class Receivers:
    """Stand-ins for the sender (by URL, an answer or an error) and for the database (what is noted)."""

    def __init__(self, answers: dict[str, ReceiverAnswer | Exception]) -> None:
        self.answers = answers
        self.noted: dict[int, tuple[Any, Any]] = {}
        self.tries = Tries()

    async def send(self, _: str, url: str, *__: Any) -> ReceiverAnswer:
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, work: Any) -> Any:
        return await work(self)


async def test_an_error_of_a_try_is_the_outcome_of_that_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers(
        {"good": ReceiverAnswer(200), "odd": OverflowError("odd"), "busy": ReceiverAnswer(counts=False)}
    )
    found = [DueDelivery(n, 0, f"evt_{n}", url, url, True, b"{}") for n, url in enumerate(receivers.answers)]
    turns = [WebhookTurn("ACTIVE", "u", [signing.new_secret()], found), WebhookTurn(None)]

    async def take(*_: Any) -> WebhookTurn:
        return turns.pop(0)

    async def note(_: Any, number: int, tries: int, *, status: Any, error: Any, **__: Any) -> bool:
        receivers.noted[number] = (status, error)
        return True

    async def leave(*_: Any) -> None:
        return None

    monkeypatch.setattr(due, "take", take)
    monkeypatch.setattr(due, "note", note)
    monkeypatch.setattr(due, "leave", leave)
    steps = WebhookSteps(receivers, receivers, Settings())  # type: ignore[arg-type]
    view = await webhooks._Turn(steps._database, steps._sender, steps._delays, "w").run()
    assert view.gone
    assert receivers.noted == {0: (200, None), 1: (None, Trouble.ERROR)}
    assert "a try of delivery 1 failed unexpectedly" in caplog.text


class Slow(Sender):
    """Its receivers take a moment, and count the tries at the same time."""

    now = most = 0

    async def send(self, owner: str, url: str, body: bytes, headers: Mapping[str, str]) -> ReceiverAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001 * (len(body) % 7))
        self.now -= 1
        return ReceiverAnswer(200)


async def test_webhooks_share_the_ten_tries_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes ten more deliveries, however many are under way."""
    settings = Settings()
    sender, left = Slow(ReceiverAddresses(settings, OwnServices(settings))), {"one": 100, "other": 100}

    async def take(_: Any, webhook_id: str, taken: Sequence[int], tries: Tries) -> WebhookTurn:
        numbers = [n for n in range(left[webhook_id]) if n not in taken and n not in done[webhook_id]]
        found = [DueDelivery(n, 0, "evt", "https://host/", "host", True, b"{}" * n) for n in numbers[:10]]
        return WebhookTurn("ACTIVE" if numbers or taken else None, webhook_id, [signing.new_secret()], found)

    async def run(work: Any) -> Any:
        return await work(None)

    async def leave(*_: Any) -> None:
        return None

    done: dict[str, set[int]] = {name: set() for name in left}
    monkeypatch.setattr(due, "take", take)
    monkeypatch.setattr(due, "leave", leave)

    async def turn(name: str) -> None:
        one = webhooks._Turn(SimpleNamespace(run=run), sender, (), name)  # type: ignore[arg-type]

        async def note(_: Any, *, one: DueDelivery, answer: ReceiverAnswer) -> None:
            done[name].add(one.delivery_id)

        monkeypatch.setattr(one, "_note", note)
        await one.run()

    await asyncio.gather(*map(turn, left))
    assert sender.most <= AT_HOST
    assert done == {name: set(range(count)) for name, count in left.items()}
    assert not sender.tries._at_host


async def test_a_turn_has_no_more_tries_under_way_than_its_webhook_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each due delivery has a host of its own, and no receiver answers. Cancelled, it gives its places back."""

    class Hang(Receivers):
        now = 0

        async def send(self, *_: Any) -> ReceiverAnswer:
            self.now += 1
            await asyncio.Event().wait()
            return ReceiverAnswer(200)

    async def take(_: Any, webhook_id: str, taken: Sequence[int], tries: Tries) -> WebhookTurn:
        looks.append(len(taken))
        numbers = [n for n in range(500) if n not in taken][: due.MOST]
        found = [DueDelivery(n, 0, f"evt_{n}", "", f"{n}.example", True, b"{}") for n in numbers]
        return WebhookTurn("ACTIVE", "u", [signing.new_secret()], found)

    looks: list[int] = []
    monkeypatch.setattr(due, "take", take)
    monkeypatch.setattr(webhooks, "LOOK_EVERY_S", 0.001)
    receivers: Any = Hang({})
    turn = asyncio.create_task(webhooks._Turn(receivers, receivers, (), "w").run())
    await eventually(lambda: asyncio.sleep(0, len(looks) > 20))
    most = OF_OWNER - OF_OWNER // 4
    assert (receivers.now, max(looks), receivers.tries.room("u", "w")) == (most, most, 0)
    turn.cancel()
    await asyncio.wait([turn])
    await eventually(lambda: asyncio.sleep(0, receivers.tries.room("u", "w") == OF_OWNER))


async def test_a_try_that_is_accepted_while_the_webhook_is_disabled_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    turns = [
        WebhookTurn("ACTIVE", "u", [signing.new_secret()], [DueDelivery(1, 0, "evt", "slow", "h", True, b"{}")]),
        WebhookTurn("DISABLED"),
    ]

    class Waits(Receivers):
        async def send(self, *_: Any) -> ReceiverAnswer:
            await asyncio.sleep(0.3)  # longer than the turn waits until it looks again
            return ReceiverAnswer(200)

    async def take(*_: Any) -> WebhookTurn:
        return turns.pop(0)

    async def note(*_: Any, **__: Any) -> bool:
        said.append("accepted")
        return True

    async def end(*_: Any) -> int:
        said.append("given up")
        return 0

    async def leave(*_: Any) -> None:
        return None

    for name, stand_in in {"take": take, "note": note, "end": end, "leave": leave}.items():
        monkeypatch.setattr(due, name, stand_in)
    receivers: Any = Waits({})
    await webhooks._Turn(receivers, receivers, (), "w").run()
    assert said == ["accepted", "given up"]
