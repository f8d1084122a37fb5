"""Bulk operations: what a call does at once, and what a worker makes of a page."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from fastapi import BackgroundTasks
from temporalio.exceptions import ApplicationError

from activities.operations import BUSY_PAUSE, PAGES_AT_ONCE, OperationSteps
from api.http.errors import TooManyRequests
from api.routes import operations as routes
from api.schemas.operations import BulkCancel, BulkRetry
from infra.db.access.callers import Caller
from infra.db.transactions.begin_operation import MOST_RUNNING
from infra.settings import Settings
from workflows.domain.operation import OperationState
from workflows.domain.role import Role
from workflows.messages import OperationInput

DRY_RUN = {"filter": {"all": True}, "dryRun": True}
BY = Caller("key_1", Role.USER, "u", "key_1")


async def test_a_call_is_charged_before_anything_is_counted() -> None:
    charge = AsyncMock(side_effect=TooManyRequests(3))
    request, context = MagicMock(state=MagicMock(charge=charge)), MagicMock()
    with pytest.raises(TooManyRequests):
        await routes.cancel_tasks(request, context, BY, BackgroundTasks(), BulkCancel.model_validate(DRY_RUN))
    with pytest.raises(TooManyRequests):
        await routes.retry_tasks(request, context, BY, BackgroundTasks(), BulkRetry.model_validate(DRY_RUN))
    assert [call.args for call in charge.await_args_list] == [(10,)] * 2
    context.database.run.assert_not_called()


async def test_the_workflow_is_started_after_the_answer() -> None:
    """A Temporal that is slow keeps no caller waiting."""
    background, start = BackgroundTasks(), AsyncMock()
    operation = MagicMock(operation_id="op_1", matched=2, state=OperationState.RUNNING)
    context: Any = MagicMock(database=MagicMock(run=AsyncMock(return_value=operation)))
    context.temporal.start_operation = start
    body = BulkCancel.model_validate({"filter": {"app": "a"}})
    answer = await routes.cancel_tasks(MagicMock(state=object()), context, BY, background, body)
    assert answer["data"].model_dump(by_alias=True, exclude_unset=True) == {"operationId": "op_1", "matched": 2}
    start.assert_not_awaited()
    await background()
    start.assert_awaited_once_with("op_1")


async def test_a_worker_keeps_places_for_other_work() -> None:
    """A page that finds no place waits in Temporal, and not in one of the worker's places."""
    goes_on = asyncio.Event()
    steps = OperationSteps(MagicMock(), AsyncMock(), MagicMock(), Settings())
    steps._next_page = lambda _: goes_on.wait()  # type: ignore[assignment,method-assign,return-value]
    given = OperationInput("op_1")
    pages = [asyncio.create_task(steps.work_off_page(given)) for _ in range(PAGES_AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(ApplicationError, match="busy") as refused:
        await steps.work_off_page(given)
    assert (refused.value.next_retry_delay, refused.value.non_retryable) == (BUSY_PAUSE, False)
    goes_on.set()
    await asyncio.gather(*pages)
    await steps.work_off_page(given)


def test_no_caller_has_all_places_of_a_worker() -> None:
    assert MOST_RUNNING < PAGES_AT_ONCE
