"""docs/state-machine.md shows exactly the transitions and outcomes that the domain allows."""

from __future__ import annotations

import re
from pathlib import Path

from workflows.domain import gpu, task
from workflows.domain.attempt import REQUEUES, USES_RETRY, Outcome
from workflows.domain.task import TERMINAL, TaskStatus

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text("utf-8")


def section(name: str) -> str:
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


def drawn(name: str) -> set[tuple[str | None, str | None]]:
    """The arrows of a section's diagram; `[*]` is None, where a thing is not there yet or not any more."""
    found = re.findall(r"^    (\S+) --> (\S+)", section(name), re.MULTILINE)
    assert found
    return {(None if a == "[*]" else a, None if b == "[*]" else b) for a, b in found}


def test_a_task_s_transitions_are_drawn() -> None:
    assert drawn("Task") == {(before and str(before), str(after)) for before, after in task.TRANSITIONS}


def test_a_task_s_states_are_described_and_the_final_ones_named() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section("Task"), re.MULTILINE))
    assert set(described) == set(TaskStatus)
    assert {state for state, meaning in described.items() if meaning.endswith("; final")} == TERMINAL


def test_a_node_s_transitions_are_drawn() -> None:
    assert drawn("Node") == {(before and str(before), after and str(after)) for before, after in gpu.TRANSITIONS}


def test_an_attempt_s_outcomes_are_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \| (.+) \|$", section("Attempt"), re.MULTILINE)
    assert {outcome for outcome, _, _ in rows} == set(Outcome)
    assert {outcome for outcome, retry, _ in rows if retry == "yes"} == USES_RETRY
    assert {outcome for outcome, _, then in rows if then == "QUEUED"} == REQUEUES
