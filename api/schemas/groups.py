"""Groups of tasks: the progress of one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from api.schemas.fields import Long, sample
from workflows.domain.task import TaskStatus


class Group(BaseModel):
    """The tasks of a group by status; `progress` in percent, `estimatedRemainingTime` in seconds."""

    model_config = sample(
        groupId="group_2026",
        total=1000,
        statusCounts={"QUEUED": 380, "PROCESSING": 8, "COMPLETED": 610, "FAILED": 2, "TIMEOUT": 0},
        progress=61,
        estimatedRemainingTime=1425,
    )

    groupId: str
    total: Long
    statusCounts: dict[TaskStatus, Long]
    progress: Annotated[int, Field(description="已结束任务的百分比，全部结束时为 100")]
    estimatedRemainingTime: Annotated[
        Long | None, Field(description="秒，至最后一个任务结束；全部结束时为 0，无法估计时为 null")
    ]
