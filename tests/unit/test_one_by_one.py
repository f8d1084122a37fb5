"""Items that are treated by themselves, of which some fail, and a database that is lost meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import psycopg
import pytest

from activities import reconciler
from infra.db.one_by_one import one_by_one
from infra.db.tasks.limits import TaskPastLimit
from infra.settings import Settings
from workers.leader import limits
from workers.leader.operations import StalledOperations
from workflows.domain.task import EndReason

AWAY = psycopg.OperationalError("away")


class _Work:
    """Doubles its item, or raises what the item stands for."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.most, self._now = 0, 0

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if item == 0:
            raise ValueError("a bad row")
        if item < 0:
            raise AWAY
        return 2 * item


@pytest.mark.parametrize("at_once", [1, 3, 9])
async def test_one_that_fails_holds_up_no_other(at_once: int) -> None:
    work, failed = _Work(), MagicMock()
    done = await one_by_one(work, [1, 0, 2, 3, 4], failed, at_once=at_once)
    assert sorted(done) == [(1, 2), (2, 4), (3, 6), (4, 8)]
    (item, error), _ = failed.call_args
    assert (failed.call_count, item, str(error)) == (1, 0, "a bad row")
    assert work.most == min(at_once, 5)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_nothing_begins_once_the_database_is_lost(at_once: int) -> None:
    work, failed = _Work(), MagicMock()
    with pytest.raises(psycopg.OperationalError):
        await one_by_one(work, [1, *[-1] * at_once, *range(2, 9)], failed, at_once=at_once)
    assert work.begun == [1, *[-1] * at_once]
    failed.assert_not_called()


class _LostAfter:
    """A database that answers once, and is lost then."""

    def __init__(self, answer: Any) -> None:
        self._answers = iter([answer])
        self.asked = 0

    async def single(self, work: Any) -> Any:
        return await self.run(work)

    async def run(self, work: Any, **_: Any) -> Any:
        self.asked += 1
        for answer in self._answers:
            return answer
        raise AWAY


async def test_the_turn_for_limits_ends_with_the_database(caplog: pytest.LogCaptureFixture) -> None:
    due = [TaskPastLimit(f"task_{number}", False, EndReason.DEADLINE) for number in range(100)]
    database, temporal = _LostAfter(due), MagicMock(deliver=AsyncMock())
    with pytest.raises(psycopg.OperationalError):
        await limits.end_at_limits(database, temporal)  # type: ignore[arg-type]
    assert database.asked <= 1 + limits.AT_ONCE
    assert not caplog.records


async def test_a_reconciliation_ends_with_the_database(caplog: pytest.LogCaptureFixture) -> None:
    repairs = reconciler.Reconciler(AsyncMock(), AsyncMock(), AsyncMock(), Settings())
    repair = AsyncMock(side_effect=AWAY)
    with pytest.raises(psycopg.OperationalError):
        await repairs._each(repair, range(100))
    assert repair.await_count <= reconciler.AT_ONCE
    assert not caplog.records


async def test_an_operation_that_cannot_be_started_holds_up_no_other() -> None:
    temporal = MagicMock(start_operation=AsyncMock(side_effect=[ValueError("a defect"), None]))
    await StalledOperations(_LostAfter(["op_1", "op_2"]), temporal).start()  # type: ignore[arg-type]
    assert [one.args[0] for one in temporal.start_operation.await_args_list] == ["op_1", "op_2"]
