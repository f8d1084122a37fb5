"""A stream that catches up with the log, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from api.routes import streams
from infra.db.access.callers import Caller
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Event, Page
from infra.events.hub import Hub
from workflows.domain.role import Role

CALLER = Caller("k", Role.ADMIN, "o", "k")


def page(begin: int, count: int, *, is_reset: bool = False) -> Page:
    at = datetime.now(UTC)
    events = [Event(1, begin + n, "node.gone", at, None, "g", None, None, None, {}) for n in range(1, count + 1)]
    return Page(Cursor("log", 1, begin), is_reset, events, Cursor("log", 1, begin + count))


async def frames(first: Page, *others: Page, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    left = list(others)

    async def read(*_: object) -> Page:
        return left.pop(0)

    async def single(_: object) -> Cursor:
        return first.until

    monkeypatch.setattr(streams, "read", read)
    hub = Hub(SimpleNamespace(single=single))  # type: ignore[arg-type]
    context: Any = SimpleNamespace(hub=hub)
    return [frame async for frame in streams._frames(context, CALLER, None, first)]


async def test_a_stream_ends_where_the_retention_has_overtaken_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader comes again with its cursor, and gets the event `reset`."""
    most = event_log.MOST
    sent = await frames(page(0, most), page(most, most), page(9 * most, 1, is_reset=True), monkeypatch=monkeypatch)
    assert [frame.count(b"id: ") for frame in sent] == [most, most]
    assert f"id: {Cursor('log', 1, 2 * most)}".encode() in sent[-1]
