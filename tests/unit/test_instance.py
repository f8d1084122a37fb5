"""The pauses between the turns of an instance."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import AsyncMock, MagicMock

import pytest

from infra.settings import Settings
from workers.serving import instance
from workers.serving.instance import AT_LEAST_S, AT_MOST_S, Instance


async def test_a_long_turn_leaves_a_shorter_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise what is due waits for the turn and the whole pause."""
    now_s, turns_s, slept_s = 0.0, iter([0.2, 1.0, 30.0]), []

    async def turn() -> None:
        nonlocal now_s
        now_s += next(turns_s)

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        if len(slept_s) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(instance, "Leader", MagicMock())
    monkeypatch.setattr(instance, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(instance, "asyncio", SimpleNamespace(sleep=sleep))
    one = Instance("worker", MagicMock(), MagicMock(), Settings(leader_lease=60, instance_timeout=60))
    monkeypatch.setattr(one, "_turn", AsyncMock(side_effect=turn))
    with pytest.raises(asyncio.CancelledError):
        await one.run()
    assert slept_s == pytest.approx([AT_MOST_S - 0.2, AT_MOST_S - 1.0, AT_LEAST_S])
