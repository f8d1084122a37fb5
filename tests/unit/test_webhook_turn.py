"""A turn of a webhook: each try has its own outcome, whatever goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from activities import webhooks
from activities.webhooks import WebhookSteps
from infra.db.webhooks import due
from infra.db.webhooks.due import Due, Turn
from infra.settings import Settings
from infra.webhooks import signing
from infra.webhooks.sender import Answer, Trouble


class Receivers:
    """Stand-ins for the sender (by URL, an answer or an error) and for the database (what is noted)."""

    full_hosts: tuple[str, ...] = ()

    def __init__(self, answers: dict[str, Answer | Exception]) -> None:
        self.answers = answers
        self.noted: dict[int, tuple[Any, Any]] = {}

    def room(self, _: str) -> int:
        return 1

    async def send(self, url: str, *_: Any) -> Answer:
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, work: Any) -> Any:
        return await work(self)


async def test_an_error_of_a_try_is_the_outcome_of_that_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers({"good": Answer(200), "odd": OverflowError("odd"), "busy": Answer(counts=False)})
    found = [Due(n, 0, f"evt_{n}", url, url, True, b"{}") for n, url in enumerate(receivers.answers)]
    turns = [Turn("ACTIVE", [signing.new_secret()], found), Turn(None)]

    async def take(*_: Any) -> Turn:
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
