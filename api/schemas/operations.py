"""Bulk operations: request and response, with their progress (ADR 0041)."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from api.http.errors import refusal
from api.schemas.fields import Exact, GpuId, Int64, Long, Name, Record, UnixMs, sample
from api.schemas.params import Reason
from api.schemas.words import ONE_LINE
from infra.db.tasks.filters import TaskFilter
from workflows.domain.operation import OperationKind, OperationState
from workflows.domain.task import EndReason, TaskStatus

MAX_IDS = 1000

OneId = Annotated[str, Field(min_length=1, max_length=128), ONE_LINE]


def _absent(description: str) -> Any:
    """A field that may be left out."""
    return Field(default_factory=lambda: None, description=description)


def _true(value: bool) -> bool:
    if not value:
        raise refusal("只能为 true")
    return value


class Filter(Exact):
    """Tasks that fit every given field. No field may be null: null would look like a condition without being one."""

    model_config = sample(app="face_swap_app", status="QUEUED")

    status: Annotated[TaskStatus, Field(strict=False)] = _absent("任务状态")
    task_type: Int64 = _absent("任务类型")
    gpu_id: GpuId = _absent("当前或最后一次执行所在的 GPU；节点接受任务后才计入")
    app: Name = _absent("应用")
    user_id: Name = _absent("用户；普通用户的操作仅限自己的任务")
    group_id: Name = _absent("任务组")
    end_reason: Annotated[EndReason, Field(strict=False)] = _absent("结束原因")
    created_after: UnixMs = _absent("晚于该时间创建，Unix 毫秒")
    created_before: UnixMs = _absent("早于该时间创建，Unix 毫秒")
    all: Annotated[bool, AfterValidator(_true)] = _absent("所有任务；不与其他条件同用")

    @classmethod
    def nullable(cls) -> set[str | None]:
        return set()

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not self.model_fields_set:
            raise refusal('不能为空；所有任务须写作 {"all": true}')
        if "all" in self.model_fields_set and len(self.model_fields_set) > 1:
            raise refusal("中的 all 不能与其他条件同用")
        return self

    def chosen(self, owner: str | None) -> TaskFilter:
        """The filter, within the tasks of an owner if there is one."""
        return TaskFilter(**self.model_dump(exclude_unset=True, exclude={"all"}), owner=owner)


class Bulk(Exact):
    """Which tasks an operation changes: those with these ids, or those that fit the filter."""

    model_config = sample(filter={"app": "face_swap_app", "status": "QUEUED"}, dryRun=True)

    ids: Annotated[list[OneId], Field(min_length=1, max_length=MAX_IDS)] = _absent(
        "任务ID，最多 1000 个；与 filter 二选一"
    )
    filter: Filter = _absent("条件；与 ids 二选一")
    dry_run: bool = Field(False, description="true 表示仅计数，不执行")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if len({"ids", "filter"} & self.model_fields_set) != 1:
            raise refusal("ids 与 filter 必须给出且仅给出一个")
        return self


class BulkCancel(Bulk):
    """The tasks to cancel, and why."""

    model_config = sample(filter={"app": "face_swap_app", "status": "QUEUED"}, dryRun=True)

    reason: Reason | None = Field(None, description="取消原因，记入各任务的 errorMessage")


class BulkRetry(Bulk):
    """The tasks to retry."""

    model_config = sample(filter={"endReason": "TIMEOUT", "createdAfter": 1703123456789}, dryRun=False)


class BulkAnswer(Record):
    """The number of tasks, and, unless it was a dry run, the operation."""

    model_config = sample(operationId="op_0194a1b2c3d4e5f6", matched=120)

    operation_id: str | None = Field(None, description="仅计数时没有")
    matched: Long


class OperationDO(Record):
    """How far an operation is."""

    model_config = sample(
        operationId="op_0194a1b2c3d4e5f6", kind="CANCEL", state="RUNNING", matched=120, done=80, failed=0
    )

    operation_id: str
    kind: OperationKind
    state: OperationState
    matched: Long
    done: Long = Field(description="已变更的任务数")
    failed: Long = Field(description="未能变更的任务数：重试被拒绝，或任务在轮到之前已经改变")
