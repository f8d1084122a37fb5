"""Bulk operations: what a call does at once, and what a worker makes of a page."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

from fastapi import BackgroundTasks

from api.routes import operations as routes
from api.schemas.operations import BulkCancel
from infra.db.ops.api_keys import Caller
from workflows.domain.operation import State
from workflows.domain.role import Role

BY = Caller("key_1", Role.USER, "u", "key_1")


async def test_the_workflow_is_started_after_the_answer() -> None:
    """A Temporal that is slow keeps no caller waiting."""
    background, start = BackgroundTasks(), AsyncMock()
    operation = MagicMock(operation_id="op_1", matched=2, state=State.RUNNING)
    context: Any = MagicMock(database=MagicMock(run=AsyncMock(return_value=operation)))
    context.temporal.start_operation = start
    body = BulkCancel.model_validate({"filter": {"app": "a"}})
    answer = await routes.cancel_tasks(context, BY, background, body)
    assert answer["data"].model_dump(by_alias=True, exclude_unset=True) == {"operationId": "op_1", "matched": 2}
    start.assert_not_awaited()
    await background()
    start.assert_awaited_once_with("op_1")
