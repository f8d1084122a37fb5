"""The receivers of a batch."""

from __future__ import annotations

import threading
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.routes import receivers
from infra.webhooks.target import Target, parse


async def test_the_urls_of_a_batch_are_not_read_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[threading.Thread] = set()

    def read(url: str) -> Target:
        threads.add(threading.current_thread())
        return parse(url)

    monkeypatch.setattr(receivers, "parse", read)
    context = MagicMock(receivers=MagicMock(check=AsyncMock()))
    urls = {f"tasks[{n}].webhook": f"https://{n % 7}.example.com/{'x' * 100}" for n in range(1000)}
    await receivers.check(context, MagicMock(), urls)
    assert context.receivers.check.await_count == 7
    assert len(threads) == 1
    assert threading.main_thread() not in threads
