"""What comes alone comes at once; a burst is spread, and nothing waits longer than it may."""

from __future__ import annotations

import pytest

from infra import pace
from infra.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_a_burst_takes_turns(clock: list[float]) -> None:
    paced = Pace(per_s=10, longest_s=30)
    assert [paced.delay_s(1) for _ in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert paced.delay_s(2) == 0  # of another type
    clock[0] += 0.25
    assert paced.delay_s(1) == pytest.approx(0.15)


def test_what_comes_alone_does_not_wait(clock: list[float]) -> None:
    paced = Pace(per_s=10, longest_s=30)
    for _ in range(3):
        assert paced.delay_s(1) == 0
        clock[0] += 1


def test_none_waits_longer_than_it_may(clock: list[float]) -> None:
    paced = Pace(per_s=10, longest_s=1)
    delays = [paced.delay_s(1) for _ in range(200)]
    assert delays[:11] == pytest.approx([number / 10 for number in range(11)])
    assert all(0.5 <= delay <= 1 for delay in delays[11:])
    assert len(set(delays[11:])) > 100
    clock[0] += 2
    assert paced.delay_s(1) == 0
