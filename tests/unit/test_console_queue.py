"""The console's page of the queue: its order and its total."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.console.pages import queue
from infra.db.slots.capacity import Capacity, Nodes
from tests.unit.console_rows import asked


async def test_tasks_that_do_not_compete_are_in_the_order_of_their_expected_starts() -> None:
    """Within a pool the places decide, though a round that is short may be expected before the last slot is free."""
    nodes = Nodes(5, 1, 0, 1, 1, 1, 0, 1, 0, 2, 0)
    seen = {2: Capacity(nodes, [2], [50.0, 90.0], 1.0), 3: Capacity(nodes, [3], [10.0, 60.0], 5.0)}
    seen[4] = Capacity(replace(nodes, slots=0), [4], [], 1.0)
    names = [(4, "none"), (2, "a"), (2, "b"), (2, "c"), (3, "d"), (3, "e")]
    waiting: list[Any] = [
        MagicMock(task_type=kind, task_id=name, vip=False, queue_class=0, barred_on=[]) for kind, name in names
    ]
    one = asked([])
    context: Any = one.context
    context.forecast.of = AsyncMock(side_effect=lambda wanted: seen[wanted.task_type])
    context.forecast.places = AsyncMock(side_effect=lambda _, tasks: {name: (n, True) for n, name in enumerate(tasks)})
    context.database.single = AsyncMock(return_value={})
    found = sorted(await queue.rows(one, waiting), key=queue._runs_at)
    assert [row.task.task_id for row in found] == ["d", "a", "e", "b", "c", "none"]


async def test_the_queue_counts_also_what_it_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types without a count of their own, and those beyond the ones with the most tasks."""
    one, listed = asked([]), AsyncMock(return_value=[])
    kinds = {(number, "QUEUED"): number for number in range(1, queue.MOST_LISTED + 3)} | {(None, "QUEUED"): 10_000}
    monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=kinds))
    monkeypatch.setattr(queue, "_page", listed)
    found = await queue.contents(one)
    assert found["total"] == sum(kinds.values())
    types = listed.call_args.args[2]
    assert {*types} <= {*range(3, queue.MOST_LISTED + 3)}
