"""Nodes' reports on their attempts (specification §3.6, §3.7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_json_text, read_start
from api.http.envelope import Envelope, ok, says
from api.http.errors import BadRequest, TooComplex, TooLarge
from api.middleware.authentication import CallerOf
from api.schemas.params import AttemptToken, TaskId
from api.schemas.reports import START, RefusedStatus, UpdateResult, UpdateStatus
from infra.db.access.callers import Caller
from infra.db.transactions import report as reports
from infra.db.transactions.report import Report, ReportOutcome, StatusReport
from infra.json.off_loop import off_loop
from workflows.domain.attempt import End, Outcome
from workflows.domain.task import TaskStatus

router = APIRouter(prefix="/tasks", tags=["任务管理"])


def _report(caller: Caller, task_id: str, token: str | None, gpu_id: str | None) -> Report:
    return Report(task_id, token or None, gpu_id, caller.node_lineage)


async def _answer(context: Context, outcome: ReportOutcome, message: str) -> dict[str, Any]:
    await context.deliver(outcome.notifications)
    if outcome.refusal is not None:
        raise outcome.refusal
    return ok(message)


Said = Callable[[Request, BadRequest], Awaitable[tuple[str | None, End] | None]]
"""Reads from a refused report the GPU, if that is given, and the end of its attempt."""


def _ends_its_attempt(said: Said) -> Any:
    """A FastAPI dependency around a report: one that is refused may close its attempt (`reports.end_refused`).

    The answer is 400 all the same.
    """

    async def around(
        request: Request, context: ContextOf, caller: CallerOf, task_id: TaskId, x_attempt_token: AttemptToken = None
    ) -> AsyncIterator[None]:
        try:
            yield
        except BadRequest as refused:
            if (found := await said(request, refused)) is not None:
                report, end = _report(caller, task_id, x_attempt_token, found[0]), found[1]
                await context.deliver(await context.database.run(lambda c: reports.end_refused(c, report, end)))
            raise

    return Depends(around)


async def _refused_result(_: Request, refused: BadRequest) -> tuple[None, End] | None:
    """The end of an attempt whose result is refused because of `result` itself; None for any other refusal.

    `result` is at fault if it is missing, no text, no JSON text, or makes the body too large or too complex, which no
    other field can do. Other faults say nothing about the result: the body was damaged on its way (it is no JSON, or
    came too slowly), or another field is wrong.
    """
    if refused.field != "result" and not isinstance(refused, TooLarge | TooComplex):
        return None
    return None, End(Outcome.FAILED, f"节点上报的结果无法接受: {refused.detail}")


async def _refused_status(request: Request, refused: BadRequest) -> tuple[str | None, End] | None:
    """The end that a refused report states; None if `status` or `gpuId` itself is refused, or if it states no end."""
    if refused.field in ("status", "gpuId"):  # given twice, perhaps
        return None
    cut = isinstance(refused, TooLarge | TooComplex)
    body = refused.body or (await read_start(request, START) if isinstance(refused, TooLarge) else b"")
    found = await off_loop.run(len(body), lambda: RefusedStatus.of(body, whole=not cut))
    end = None if found is None else StatusReport(found.status, found.message, rejected=found.rejected).end
    return None if found is None or end is None else (found.gpu_id, end)


@router.post(
    "/{taskId}/status",
    response_model=Envelope[str],
    summary="3.6 更新任务状态",
    description="上报 FAILED 或 QUEUED 时 `message` 等其他字段无法接受的，返回 400，当前的执行尝试仍按上报结束。",
    responses=says("任务状态更新成功"),
    dependencies=[_ends_its_attempt(_refused_status)],
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


@router.post(
    "/{taskId}/result",
    response_model=Envelope[str],
    summary="3.7 更新任务结果",
    description="`result` 无法接受时返回 400，并且当前的执行尝试以此原因失败。",
    responses=says("任务结果更新成功"),
    dependencies=[_ends_its_attempt(_refused_result)],
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
