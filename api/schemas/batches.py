"""Creating many tasks at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from api.schemas.create_task import CreateTask
from api.schemas.fields import GroupId, Request, sample, sample_of

MOST = 1000
MOST_TYPES = 16
"""The most task types in a batch. Under their locks, its flows are looked up in the pools of all of them."""
MOST_APPS = 64
"""Distinct flows of a batch, which are those of its apps where the key acts for others."""


class CreateBatch(Request):
    """Bodies of `POST /tasks`, and the group of all of them."""

    model_config = sample(tasks=[sample_of(CreateTask), sample_of(CreateTask) | {"priority": 1}], groupId="group_2026")

    tasks: Annotated[list[CreateTask], FailFast(), Field(min_length=1, max_length=MOST)]
    group_id: GroupId | None = Field(None, description="扩展：全部任务所属的任务组；任务自身的 groupId 须与之相同")
