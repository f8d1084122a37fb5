"""The reads of the console's first page: each thing once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from api.console.pages.now import Seen
from infra.db.connection import Connection
from infra.db.slots import eligibility
from infra.db.slots.usage import Slots
from tests.db.life import Life


def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The statements that connections execute from now on, with their parameters."""
    found: list[tuple[str, str]] = []
    execute = Connection._executed

    async def executed(connection: Connection, factory: Any, text: str, values: Mapping[str, Any] | None) -> Any:
        found.append((text, str(values)))
        return await execute(connection, factory, text, values)

    monkeypatch.setattr(Connection, "_executed", executed)
    return found


async def test_each_thing_is_read_once(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.do("TRUNCATE counters")
    await life.node("n", [1, 2], slots=2)
    await life.create("held", claims_slot=True)
    await life.create("waits")
    statements = noted(monkeypatch)
    seen = await Seen.read(life.connection, 15.0)
    assert sorted(set(statements)) == sorted(statements)
    assert sum(eligibility.used("g") in text for text, _ in statements) == 1
    assert seen.state.kinds == {(1, "QUEUED"): 2}
    assert (seen.slots, seen.slots_of_type) == (Slots(2, 1), dict.fromkeys([1, 2], Slots(2, 1)))
