"""Levels of health where nodes drain; the rules are in `workflows.domain.health`."""

from __future__ import annotations

from itertools import product

import pytest

from workflows.domain.alert import AlertLevel
from workflows.domain.health import Health, Levels, gpu_health, queue_health


@pytest.mark.parametrize(
    ("counts", "draining", "level"),
    [
        ({}, 0, Health.HEALTHY),
        ({"ACTIVE": 3}, 2, Health.HEALTHY),
        ({"ACTIVE": 3}, 3, Health.DEGRADED),
        ({"ACTIVE": 8, "OFFLINE": 2}, 7, Health.HEALTHY),
        ({"ACTIVE": 8, "OFFLINE": 2}, 8, Health.DEGRADED),
        ({"OFFLINE": 2}, 0, Health.UNHEALTHY),
    ],
)
def test_a_fleet_that_wholly_drains_is_not_healthy(counts: dict[str, int], draining: int, level: Health) -> None:
    assert gpu_health(counts, draining) is level


def test_a_queue_beside_nodes_that_all_drain_does_not_move() -> None:
    assert queue_health({"QUEUED": 1}, working_gpus=0) is Health.UNHEALTHY
    assert queue_health({"QUEUED": 0}, working_gpus=0) is Health.HEALTHY
    assert queue_health({"QUEUED": 200}, working_gpus=1) is Health.DEGRADED


def test_the_system_is_as_healthy_as_its_worst_part() -> None:
    good, less, bad = Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY
    for worst, others in ((good, [good]), (less, [good, less]), (bad, [good, less, bad])):
        for one in product(others, repeat=4):
            assert worst not in one or Levels(*one).system is worst


def test_the_most_urgent_level_comes_first() -> None:
    assert sorted(AlertLevel, key=lambda one: one.rank) == ["CRITICAL", "WARNING", "INFO"]
