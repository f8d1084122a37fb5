"""What comes alone comes at once; a burst is spread, and nothing waits longer than it may."""

from __future__ import annotations

import asyncio

import pytest

from infra import pace
from infra.pace import Lane, Pace

LONG_S = 3600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_a_burst_takes_turns(clock: list[float]) -> None:
    paced = Pace(per_s=10, paced_s=30, longest_s=30)
    assert [paced.delay_s(1) for _ in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert paced.delay_s(2) == 0  # of another type
    clock[0] += 0.25
    assert paced.delay_s(1) == pytest.approx(0.15)


def test_what_comes_alone_does_not_wait(clock: list[float]) -> None:
    paced = Pace(per_s=10, paced_s=30, longest_s=30)
    for _ in range(3):
        assert paced.delay_s(1) == 0
        clock[0] += 1


def test_those_for_whom_that_is_late_come_far_later_by_chance(clock: list[float]) -> None:
    paced = Pace(per_s=10, paced_s=1, longest_s=60)
    delays = [paced.delay_s(1) for _ in range(200)]
    assert delays[:11] == pytest.approx([number / 10 for number in range(11)])
    assert all(30 <= delay <= 60 for delay in delays[11:])
    assert len(set(delays[11:])) > 100
    clock[0] += 2
    assert 30 <= paced.delay_s(1, late=True) <= 60
    assert paced.delay_s(1) == 0  # it took nobody's turn


async def test_a_lane_is_taken_in_turn() -> None:
    lane, order = Lane(patience_s=LONG_S), []
    within = 0

    async def go(number: int) -> None:
        nonlocal within
        async with lane.turn():
            within += 1
            assert within == 1
            order.append(number)
            await asyncio.sleep(0)
            within -= 1

    await asyncio.gather(*(go(number) for number in range(5)))
    assert order == list(range(5))


async def test_who_has_waited_long_goes_beside_the_others() -> None:
    lane, passed = Lane(patience_s=0.01), asyncio.Event()

    async def follow() -> None:
        async with lane.turn():
            passed.set()

    async with lane.turn():
        follower = asyncio.create_task(follow())
        await asyncio.wait_for(passed.wait(), 10)
        await follower
        assert lane._busy.locked()  # still ours
    assert not lane._busy.locked()


async def test_a_turn_that_fails_is_over() -> None:
    lane = Lane(patience_s=LONG_S)
    with pytest.raises(ValueError, match="within"):
        async with lane.turn():
            raise ValueError("within")
    assert not lane._busy.locked()
