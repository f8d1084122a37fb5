"""Silent nodes of a fleet: who is held, and for how long, and when the alert ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from infra.db.nodes import liveness
from infra.db.ops import alert_ends, alerts
from infra.settings import Settings
from workers.leader.silent_nodes import SilentNodes
from workflows.notifications import Notifications


async def test_a_node_that_was_held_stays_held_while_the_others_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to three graces of its silence; one that falls silent alone is not held."""
    signalled: list[str] = []
    found = [liveness.Silence([], ["a", "b", "c"], 9), liveness.Silence([("c", 1), ("d", 1)], [], 9)]

    async def run(_: object) -> Any:
        return found[0] if len(found) == 1 else found.pop(0)

    async def deliver(notifications: Notifications) -> None:
        signalled.extend(one.gpu_id for one in notifications.nodes)

    database, temporal = SimpleNamespace(run=run, single=run), SimpleNamespace(deliver=deliver)
    silent = SilentNodes(cast(Any, database), cast(Any, temporal), Settings())
    for _ in range(3):
        await silent.find()
    assert signalled == ["d"]
    silent._held.expire(time.monotonic() + 2 * Settings().heartbeat_timeout)
    await silent.find()
    assert signalled == ["d", "c"]


async def test_a_node_that_was_held_and_beat_again_is_not_held_when_it_falls_silent_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signalled: list[str] = []
    found = [
        liveness.Silence([], ["a", "b", "c"], 9),
        liveness.Silence([], ["b", "c"], 9),
        liveness.Silence([("a", 1)], ["b", "c"], 9),
    ]

    async def run(work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(None)

    async def find(*_: object) -> liveness.Silence:
        return found.pop(0)

    async def deliver(notifications: Notifications) -> None:
        signalled.extend(one.gpu_id for one in notifications.nodes)

    monkeypatch.setattr(liveness, "find", find)
    monkeypatch.setattr(alerts, "raise_alert", AsyncMock())
    database, temporal = SimpleNamespace(run=run, single=run), SimpleNamespace(deliver=deliver)
    silent = SilentNodes(cast(Any, database), cast(Any, temporal), Settings())
    for _ in range(3):
        await silent.find()
    assert signalled == ["a"]


async def test_it_ends_also_after_the_leader_has_changed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    held: list[str] = []

    async def run(work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(None)

    async def deliver(_: object) -> None: ...

    async def find(*_: object) -> object:
        return SimpleNamespace(held=list(held), fleet=9, lapsed=[])

    async def raise_alert(_: object, alert: alerts.NewAlert) -> None:
        noted.append(f"raised {alert.cause}")

    async def end_others(_: object, kind: str) -> None:
        noted.append(f"ended {kind}")

    monkeypatch.setattr(liveness, "find", find)
    monkeypatch.setattr(alerts, "raise_alert", raise_alert)
    monkeypatch.setattr(alert_ends, "end_others", end_others)
    database, temporal = SimpleNamespace(run=run, single=run), SimpleNamespace(deliver=deliver)
    one, other = (SilentNodes(cast(Any, database), cast(Any, temporal), Settings()) for _ in range(2))
    await one.find()
    held[:] = ["n"]
    await other.find()
    held.clear()
    noted.clear()
    await one.find()
    assert noted == ["ended fleet-silent"]
