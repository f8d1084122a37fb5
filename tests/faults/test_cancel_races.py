"""A short run of `python -m tests.faults.cancel_races`, on a database of its own."""

from __future__ import annotations

from infra.data_dir.embedded import postgres_url
from tests.db.sessions import Sessions
from tests.faults import cancel_races

RACES = 200


async def test_of_a_cancel_a_result_and_a_timeout_exactly_one_wins(stack):
    async with Sessions(stack.services.database_url).connect(autocommit=True) as connection:
        await connection.execute("CREATE DATABASE cancel_races")
    found = await cancel_races.race(postgres_url(stack.data_dir, "cancel_races"), RACES, seed=2026)
    assert found.wrong == []
    assert found.won.total() == RACES
    assert set(found.won) == {"cancel", "result", "timeout"}
