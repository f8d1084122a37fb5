"""A database that hangs is waited for once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from psycopg import OperationalError, errors

from infra.db import session
from infra.db.session import Database, DatabaseSilent
from tests.conftest import eventually


class Hanging(Database):
    """A database that answers each call when it is let."""

    def __init__(self) -> None:
        super().__init__("postgresql://nowhere/none")
        self.calls: list[asyncio.Event] = []
        self.error: Exception | None = None

    async def _lend(self, work: Any) -> Any:
        self.calls.append(asyncio.Event())
        await self.calls[-1].wait()
        if self.error is not None:
            raise self.error

    async def ask(self, within_s: float = 0.2) -> None:
        await self.run(lambda c: asyncio.sleep(0), within_s=within_s)

    async def asks(self, within_s: float = 0.2) -> asyncio.Task[None]:
        """A call that has reached the database."""
        before = len(self.calls)
        task = asyncio.create_task(self.ask(within_s))

        async def arrived() -> bool:
            return len(self.calls) > before

        await eventually(arrived)
        return task

    async def answer(self) -> None:
        """Make a call, and answer it."""
        task = await self.asks(within_s=60)
        self.calls[-1].set()
        await task


async def test_after_one_call_without_an_answer_the_next_fail_at_once() -> None:
    database = Hanging()
    with pytest.raises(DatabaseSilent, match="no answer within"):
        await database.ask()
    for _ in range(3):
        with pytest.raises(DatabaseSilent, match="has not answered lately"):
            await database.ask()
    assert len(database.calls) == 1


async def test_a_call_that_tries_and_is_answered_lets_the_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PAUSE_S", 0.0)
    database = Hanging()
    with pytest.raises(DatabaseSilent, match="no answer within"):
        await database.ask()
    for _ in range(3):
        await database.answer()


async def test_a_slow_call_beside_others_that_are_answered_is_no_outage() -> None:
    database = Hanging()
    slow = await database.asks()
    await database.answer()
    with pytest.raises(DatabaseSilent, match="no answer within"):
        await slow
    await database.answer()


@pytest.mark.parametrize(
    ("error", "pause_s", "tries"),
    [(OperationalError("no connection"), 0.0, 1), (OperationalError("refused"), 60.0, 3), (ValueError("ours"), 0.0, 3)],
)
async def test_a_long_wait_for_a_connection_that_cannot_be_had_counts_too(
    error: Exception, pause_s: float, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Hanging()
    database.error = error
    monkeypatch.setattr(session, "PAUSE_S", pause_s)
    for _ in range(3):
        with pytest.raises((type(error), DatabaseSilent)):
            await database.answer() if len(database.calls) < tries else await database.ask()
    assert len(database.calls) == tries


@pytest.mark.parametrize(
    ("sqlstate", "away"),
    [("25006", True), ("25P03", True), ("25P04", True), ("40001", True), ("40P01", True), ("53100", True),
     ("53300", True), ("55P03", True), ("57014", True), ("57P01", True), ("57P03", True), ("58000", True),
     ("58030", True), ("08006", True), ("23505", False), ("25001", False), ("25P02", False), ("42601", False),
     ("42P01", False), ("22021", False), ("55006", False), ("XX000", False)],
)  # fmt: skip
def test_an_error_of_the_server_is_an_outage_by_its_sqlstate(sqlstate: str, away: bool) -> None:
    assert session.is_unavailable(errors.lookup(sqlstate)("words")) is away
