"""The notes about the schema, and the words that it shares with the code."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from infra.db.schema.migrate import WRITTEN, columns
from infra.db.schema.revision import VERSIONS
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.attempt import Outcome
from workflows.domain.gpu import GpuStatus, PriorityQueue
from workflows.domain.operation import OperationKind, OperationState
from workflows.domain.role import Role
from workflows.domain.task import TERMINAL, TaskStatus

SCHEMA = WRITTEN.read_text("utf-8")
NOTES = (VERSIONS.parent / "README.md").read_text("utf-8")
COLUMNS = {f"{table}.{column}" for table, column in columns()}


def test_the_columns_are_read() -> None:
    tables = set(re.findall(r"CREATE TABLE public\.(\w+)", SCHEMA))
    assert {name.partition(".")[0] for name in COLUMNS} == tables
    assert {"tasks.task_id", "tasks.webhook_id", "counters.n", "counter_deltas.n"} <= COLUMNS
    assert not any("constraint" in name.lower() for name in COLUMNS)


def test_the_notes_name_columns_and_indexes_that_exist() -> None:
    named = set(re.findall(r"`(\w+\.\w+)`", NOTES))
    assert len(named) > 50
    assert named <= COLUMNS
    assert set(re.findall(r"`(ix_\w+)`", NOTES)) <= set(re.findall(r"INDEX (\w+)", SCHEMA))


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("ck_alerts_level", AlertLevel),
        ("ck_alerts_status", AlertStatus),
        ("ck_api_keys_role", Role),
        ("ck_attempts_outcome", Outcome),
        ("ck_gpus_priority_queue", PriorityQueue),
        ("ck_gpus_status", GpuStatus),
        ("ck_operations_kind", OperationKind),
        ("ck_operations_state", OperationState),
        ("ck_tasks_completed_iff_terminal", TERMINAL),
        ("ck_tasks_status", TaskStatus),
    ],
)
def test_a_check_has_the_values_of_the_code(constraint: str, values: Iterable[str]) -> None:
    (check,) = re.findall(rf"CONSTRAINT {constraint} CHECK (.*)", SCHEMA)
    assert set(re.findall(r"'(\w+)'", check)) == set(map(str, values))
