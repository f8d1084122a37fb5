"""Steering tasks (ADR 0035)."""

from __future__ import annotations

from pydantic import Field

from api.schemas.fields import Exact, Int64, Request, sample
from api.schemas.params import Reason


class CancelTask(Request):
    """Why a task is cancelled."""

    model_config = sample(reason="输入有误")

    reason: Reason | None = Field(None, description="取消原因，记入 errorMessage")


class ChangeTask(Exact):
    """The change of a task's priority; any other field is refused."""

    model_config = sample(priority=3)

    priority: Int64 = Field(description="新的优先级")
