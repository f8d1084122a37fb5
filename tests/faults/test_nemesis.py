"""A short run of the fault harness with a fixed seed; `make faults` is the long one."""

from __future__ import annotations

import pytest

from tests.faults import bad_nodes, campaign, careless, operator
from tests.faults.plan import Plan, faults
from tests.faults.system import PARTS
from tests.faults.verdict import SEEN_OFTEN, Found
from workers.stack.logs import console

SHORT = Plan(seed=2026, seconds=45, tasks=100, every_s=2.5, drain_s=150)


@pytest.mark.timeout(360)
async def test_nothing_is_lost_doubled_leaked_or_stuck() -> None:
    figures = await campaign.run(SHORT, console())
    print(figures.as_table())  # noqa: T201  shown where the test fails
    assert figures.complaints == []
    assert figures.sound
    assert figures.accepted == SHORT.tasks
    assert figures.kills >= 5
    assert figures.pauses >= 2
    assert figures.drains >= operator.LEAST
    assert sum(figures.cancels.values()) == SHORT.tasks // campaign.CANCELLED
    assert figures.cancels["200: FAILED CANCELLED"] > 0
    assert sum(figures.network_faults.values()) > 0
    assert set(figures.bad_nodes) == set(bad_nodes.KINDS)
    assert {end.partition(":")[0] for end in figures.careless} == set(careless.KINDS)


def test_the_seed_decides_everything() -> None:
    names = list(PARTS)
    assert faults(SHORT, names) == faults(SHORT, names)
    assert faults(SHORT, names) != faults(Plan(seed=1, seconds=45, tasks=100, every_s=2.5), names)
    assert {fault.part for fault in faults(SHORT, names)} == set(PARTS)


def test_the_longest_recovery_is_from_a_fault_to_the_next_end() -> None:
    assert campaign.longest_gap([1.0, 4.0, 9.0], [0.5, 2.0, 7.0]) == 3.0


@pytest.mark.parametrize(
    ("found", "is_known", "words"),
    [
        (
            Found("n", "FAULTY", False, 50, "fault:n", 3.0, 7),
            True,
            "FAULTY, 50 attempts, fault after 3.0 s and 7 attempts",
        ),
        (Found("n", "ACTIVE", False, 50, "rest:FAILS:n", 9.0, 3), True, "ACTIVE, 50 attempts, rest:FAILS after 9.0 s"),
        (Found("n", "ACTIVE", True, 50, None, None, 0), True, "ACTIVE, 50 attempts, rests"),
        (Found("n", "ACTIVE", False, SEEN_OFTEN, None, None, 0), False, "no alert"),
        (Found("n", "ACTIVE", False, SEEN_OFTEN - 1, None, None, 0), True, "no alert"),
    ],
)
def test_a_bad_node_is_known_by_its_state_or_an_alert(found: Found, words: str, *, is_known: bool) -> None:
    assert found.is_known is is_known
    assert words in str(found)
