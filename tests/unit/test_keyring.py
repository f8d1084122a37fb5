"""How often keys are read from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from infra.db.access import keyring
from infra.db.access.callers import Caller, hash_key
from infra.db.access.keyring import Keyring
from tests.conftest import eventually
from workflows.domain.role import Role


class Keys:
    """A database with keys, that counts how often they are read."""

    def __init__(self, *secrets: str) -> None:
        self.live = set(secrets)
        self.reads: list[int] = []
        self.away = False
        self.error: Exception = ConnectionError()
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def single(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            raise self.error
        return await work(self)

    async def find_all(self, _: Any, hashes: list[str]) -> dict[str, Caller]:
        self.reads.append(len(hashes))
        known = {hash_key(secret): Caller(secret, Role.USER, "u", "l") for secret in self.live}
        return {hashed: known[hashed] for hashed in hashes if hashed in known}


@pytest.fixture
def rows() -> Keys:
    return Keys("good")


def ring_of(rows: Keys, **times: float) -> Any:
    return Keyring(cast(Any, rows), rows.find_all, **times)


async def test_a_key_is_read_once_whether_it_opens_or_not(rows: Keys) -> None:
    ring = ring_of(rows)
    for _ in range(3):
        shown = await asyncio.gather(*(ring.caller(secret) for secret in ("good", "wrong", "good", "wrong")))
        assert [caller and caller.key_id for caller in shown] == ["good", None, "good", None]
    assert sum(rows.reads) == 2


async def test_a_flood_of_wrong_keys_is_read_together(rows: Keys) -> None:
    ring = ring_of(rows)
    assert await ring.caller("first") is None
    flood = [ring.caller(f"wrong {n}") for n in range(1000)]
    assert await asyncio.gather(*flood, ring.caller("good")) == [None] * 1000 + [await ring.caller("good")]
    assert rows.reads == [1, 1001]


async def test_a_key_that_was_made_a_moment_ago_opens(rows: Keys) -> None:
    ring = ring_of(rows, refused_s=0.05)
    assert await ring.caller("late") is None
    rows.live.add("late")
    for _ in range(500):
        if await ring.caller("late"):
            break
        await asyncio.sleep(0.01)
    assert await ring.caller("late")
    assert keyring.REFUSED_S <= 2


async def test_a_database_that_is_away_refuses_nobody(rows: Keys) -> None:
    ring = ring_of(rows)
    assert await ring.caller("good")
    rows.away = True
    assert await ring.caller("good")
    for answer in await asyncio.gather(*(ring.caller(f"wrong {n}") for n in range(3)), return_exceptions=True):
        assert isinstance(answer, ConnectionError)
    rows.away = False
    assert await ring.caller("wrong 0") is None


async def test_of_a_database_that_hangs_nobody_waits_for_more_than_one_read(rows: Keys) -> None:
    ring = ring_of(rows)
    rows.answers.clear()
    first = asyncio.create_task(ring.caller("first"))
    await eventually(lambda: has_asked(rows))
    meanwhile = [asyncio.create_task(ring.caller(secret)) for secret in ("first", "second")]
    await asyncio.sleep(0)
    rows.away, rows.error = True, TimeoutError()
    rows.answers.set()
    for answer in await asyncio.gather(first, *meanwhile, return_exceptions=True):
        assert isinstance(answer, TimeoutError)
    assert rows.asked == 1
    rows.away = False
    assert await ring.caller("third") is None


async def has_asked(rows: Keys) -> bool:
    return rows.asked > 0


async def test_a_caller_that_goes_takes_nobody_along(rows: Keys) -> None:
    ring = ring_of(rows)
    await ring.caller("first")
    gone, stays = (asyncio.create_task(ring.caller("good")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).key_id == "good"
