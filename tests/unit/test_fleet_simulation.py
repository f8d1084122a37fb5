"""Fleets in simulated time under the rules of fault attribution."""

from __future__ import annotations

import pytest

from tests.unit.fleet_simulation import fleet_of, honest, p99_s
from tests.unit.simulated_work import BAD, MIXES
from workflows.domain.task import TERMINAL, TaskStatus

SIZES = (1, 2, 3, 10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_no_input_takes_a_sound_node_out_or_fails_the_work_of_others(size: int, mix: str) -> None:
    fleet = fleet_of(size, MIXES[mix], bad=None, tasks=600, seed=size)
    assert {node.faulty_at for node in fleet.nodes.values()} == {None}
    assert {task.status for task in honest(fleet)} <= {TaskStatus.COMPLETED}
    assert {task.status for task in fleet.tasks} <= TERMINAL
    assert all(task.reason for task in fleet.tasks if task.status is not TaskStatus.COMPLETED)


def test_a_lone_node_serves_the_others_whatever_one_caller_sends() -> None:
    fleet = fleet_of(1, MIXES["half raise"], bad=None, tasks=600, seed=7)
    assert p99_s(honest(fleet)) < 15


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("bad", [name for name in BAD if name != "hands all back"])
def test_a_bad_node_among_sound_ones_is_found_and_fails_nobodys_work(size: int, bad: str) -> None:
    fleet = fleet_of(size, MIXES["honest work"], bad=BAD[bad], tasks=80 * size, seed=size)
    assert [node.gpu_id for node in fleet.nodes.values() if node.faulty_at is not None] == ["n0"]
    assert {task.status for task in fleet.tasks} == {TaskStatus.COMPLETED}


def test_a_node_that_hands_everything_back_gets_ever_less() -> None:
    fleet = fleet_of(3, MIXES["honest work"], bad=BAD["hands all back"], tasks=300, seed=3)
    assert {task.status for task in fleet.tasks} == {TaskStatus.COMPLETED}
    assert fleet.nodes["n0"].took <= 7 + fleet.now / 60
