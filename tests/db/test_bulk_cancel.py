"""A bulk cancel of what is QUEUED leaves alone what has started before its turn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.db.tasks.operations import Operation
from infra.db.transactions import accept_attempt, process_operation
from tests.db.life import Life
from workflows.domain.operation import OperationKind, OperationState
from workflows.domain.role import Role


def operation(chosen: dict[str, str]) -> Operation:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Operation(
        "op",
        OperationKind.CANCEL,
        chosen,
        None,
        "k",
        "u",
        Role.ADMIN,
        "k",
        {},
        None,
        "hash",
        at,
        1000,
        1,
        OperationState.RUNNING,
    )


@pytest.mark.parametrize(
    ("chosen", "started", "ends"),
    [({"status": "QUEUED"}, True, False), ({"status": "QUEUED"}, False, True), ({"app": "a"}, True, True)],
)
async def test_what_has_started_is_left_alone_by_a_cancel_of_what_is_queued(
    life: Life, chosen: dict[str, str], *, started: bool, ends: bool
) -> None:
    await life.node("n", [1])
    await life.create("t", claims_slot=True)
    if started:
        await accept_attempt.accept(life.connection, "t", 1, actor="test")
    assert (await process_operation.cancel(life.connection, operation(chosen), "t")).changed == ends
    assert await life.scalar("SELECT closed_at IS NOT NULL FROM attempts") == ends
