"""Steering tasks (ADR 0035)."""

from __future__ import annotations

from pydantic import Field

from api.schemas.fields import Request, sample
from api.schemas.params import Reason


class CancelTask(Request):
    """Why a task is cancelled."""

    model_config = sample(reason="输入有误")

    reason: Reason | None = Field(None, description="取消原因，记入 errorMessage")
