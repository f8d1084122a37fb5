"""Nodes' reports on their attempts (specification §3.6, §3.7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_json_text
from api.http.envelope import Envelope, ok, says
from api.http.errors import BadRequest, TooComplex, TooLarge
from api.middleware.authentication import CallerOf
from api.schemas.params import AttemptToken, TaskId
from api.schemas.reports import UpdateResult, UpdateStatus
from infra.db.ops.callers import Caller
from infra.db.transactions import report as reports
from infra.db.transactions.report import Report, ReportOutcome, StatusReport
from workflows.domain.task import TaskStatus

router = APIRouter(prefix="/tasks", tags=["任务管理"])


def _report(caller: Caller, task_id: str, token: str | None, gpu_id: str | None) -> Report:
    return Report(task_id, token or None, gpu_id, caller.node_lineage)


async def _answer(context: Context, outcome: ReportOutcome, message: str) -> dict[str, Any]:
    await context.deliver(outcome.notifications)
    if outcome.refusal is not None:
        raise outcome.refusal
    return ok(message)


@router.post(
    "/{taskId}/status", response_model=Envelope[str], summary="3.6 更新任务状态", responses=says("任务状态更新成功")
)
async def update_status(
    context: ContextOf,
    caller: CallerOf,
    task_id: TaskId,
    body: Annotated[UpdateStatus, Depends(JsonBody(UpdateStatus))],
    x_attempt_token: AttemptToken = None,
) -> dict[str, Any]:
    report = _report(caller, task_id, x_attempt_token, body.gpu_id)
    said = StatusReport(TaskStatus(body.status), body.message, body.progress, rejected=body.rejected is True)
    outcome = await context.database.run(lambda c: reports.status(c, report, said))
    return await _answer(context, outcome, "任务状态更新成功")


async def _fails_its_attempt(
    context: ContextOf, caller: CallerOf, task_id: TaskId, x_attempt_token: AttemptToken = None
) -> AsyncIterator[None]:
    """A FastAPI dependency around a report of a result: one that is refused fails the attempt (`fail_refused`).

    So does all that is wrong with `result` itself: it is missing, no text, no JSON text, or makes the body too large or
    too complex, which no other field does. The rest of the body is the caller's envelope, or was damaged on its way (it
    is no JSON, or came too slowly), and says nothing about the result. The answer is 400 all the same.
    """
    try:
        yield
    except BadRequest as refused:
        if refused.field == "result" or isinstance(refused, TooLarge | TooComplex):
            report, why = _report(caller, task_id, x_attempt_token, None), refused.detail
            await context.deliver(await context.database.run(lambda c: reports.fail_refused(c, report, why)))
        raise


@router.post(
    "/{taskId}/result",
    response_model=Envelope[str],
    summary="3.7 更新任务结果",
    description="`result` 无法接受时返回 400，并且当前的执行尝试以此原因失败。",
    responses=says("任务结果更新成功"),
    dependencies=[Depends(_fails_its_attempt)],
)
async def update_result(
    context: ContextOf,
    caller: CallerOf,
    task_id: TaskId,
    body: Annotated[UpdateResult, Depends(JsonBody(UpdateResult))],
    x_attempt_token: AttemptToken = None,
) -> dict[str, Any]:
    await check_json_text(body.result, "result")
    report = _report(caller, task_id, x_attempt_token, None)
    outcome = await reports.take_result(context.database, report, body.result)
    return await _answer(context, outcome, "任务结果更新成功")
