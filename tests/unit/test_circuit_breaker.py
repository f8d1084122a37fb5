"""Only one caller at a time waits for a dependency that is away."""

from __future__ import annotations

import time

import pytest

from infra.resilience.circuit_breaker import CircuitBreaker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_it_opens_after_several_failures_in_a_row(clock: list[float]) -> None:
    circuit = CircuitBreaker(pause_s=1, after=3)
    for _ in range(2):
        circuit.failed()
    circuit.answered()
    for _ in range(2):
        circuit.failed()
        assert circuit.admits()
    circuit.failed()
    assert not circuit.admits()


def test_one_caller_a_pause_tries_until_there_is_an_answer(clock: list[float]) -> None:
    circuit = CircuitBreaker(pause_s=1, after=1)
    circuit.failed()
    clock[0] += 1.1
    assert [circuit.admits() for _ in range(3)] == [True, False, False]
    clock[0] += 1.1
    assert circuit.admits()
    circuit.answered()
    assert [circuit.admits() for _ in range(3)] == [True] * 3
