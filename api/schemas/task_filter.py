"""The filters of a list of tasks, which a bulk operation has too."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from api.schemas.params import Integer, Millisecond
from api.schemas.words import FilterText
from infra.db.tasks.filters import TaskFilter
from workflows.domain.task import EndReason, TaskStatus


async def _filter_of(  # async: FastAPI would run it in a thread
    status: Annotated[TaskStatus | None, Query(description="任务状态过滤")] = None,
    task_type: Annotated[Integer | None, Query(alias="taskType", description="任务类型过滤")] = None,
    gpu_id: Annotated[FilterText | None, Query(alias="gpuId", description="GPU ID过滤；节点接受任务后才计入")] = None,
    app: Annotated[FilterText | None, Query(description="扩展：应用过滤")] = None,
    user_id: Annotated[FilterText | None, Query(alias="userId", description="扩展：用户过滤")] = None,
    group_id: Annotated[FilterText | None, Query(alias="groupId", description="扩展：任务组过滤")] = None,
    end_reason: Annotated[EndReason | None, Query(alias="endReason", description="扩展：结束原因过滤")] = None,
    created_after: Annotated[
        Millisecond | None, Query(alias="createdAfter", description="扩展：晚于该时间创建，Unix 毫秒")
    ] = None,
    created_before: Annotated[
        Millisecond | None, Query(alias="createdBefore", description="扩展：早于该时间创建，Unix 毫秒")
    ] = None,
) -> TaskFilter:
    """A FastAPI dependency: the conditions in the query."""
    return TaskFilter(status, task_type, gpu_id, app, user_id, group_id, end_reason, created_after, created_before)


FilterOf = Annotated[TaskFilter, Depends(_filter_of)]
