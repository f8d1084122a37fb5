"""A short run of the fault harness with a fixed seed; `make faults` is the long one."""

from __future__ import annotations

import pytest

from tests.faults import campaign
from tests.faults.plan import Plan, faults
from tests.faults.system import PARTS
from workers.stack.logs import console

SHORT = Plan(seed=2026, seconds=55, tasks=110, every_s=2.5)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_leaked_or_stuck() -> None:
    figures = await campaign.run(SHORT, console())
    print(figures.as_table())  # noqa: T201  shown where the test fails
    assert figures.complaints == []
    assert figures.sound
    assert figures.accepted == SHORT.tasks
    assert figures.kills >= 5
    assert figures.pauses >= 2
    assert sum(figures.network_faults.values()) > 0


def test_the_seed_decides_everything() -> None:
    names = list(PARTS)
    assert faults(SHORT, names) == faults(SHORT, names)
    assert faults(SHORT, names) != faults(Plan(seed=1, seconds=55, tasks=110, every_s=2.5), names)
    assert {fault.part for fault in faults(SHORT, names)} == set(PARTS)


def test_the_longest_recovery_is_from_a_fault_to_the_next_end() -> None:
    assert campaign.longest_gap([1.0, 4.0, 9.0], [0.5, 2.0, 7.0]) == 3.0
