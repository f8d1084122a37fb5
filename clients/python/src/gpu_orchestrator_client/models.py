"""Models of the API's answers. Names are the API's in Python's spelling, with units; moments are aware datetimes."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _moment(value: object) -> object:
    try:
        return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int | float) else value
    except (OSError, OverflowError):
        raise ValueError("timestamp out of range") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""Unix milliseconds on the wire."""


class Status(StrEnum):
    """The states of a task."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"

    @property
    def is_end(self) -> bool:
        """Whether a task in this state stays in it."""
        return self in {Status.COMPLETED, Status.FAILED, Status.TIMEOUT}


class Record(BaseModel):
    """A part of an answer; fields that this version does not know are left out."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Submitted(Record):
    """A task that was accepted; `estimated_wait_s` is None if it is unknown."""

    task_id: str
    display_id: int
    status: Status
    estimated_wait_s: int | None = Field(None, alias="estimatedWaitTime")


class Task(Record):
    """A task; `timeout_ms` is the limit of an attempt. `payload` and `result` are texts."""

    task_id: str
    display_id: int
    task_type: int
    status: Status
    user_id: str
    app: str
    priority: int
    gpu_id: str | None = None
    payload: str | None = None
    result: str | None = None
    error_message: str | None = None
    retry_count: int = 0
    max_retries: int = 0
    timeout_ms: int = Field(alias="timeout")
    estimated_wait_s: int | None = Field(None, alias="estimatedWaitTime")
    created_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None
    updated_at: Moment
    end_reason: str | None = None
    retry_of: str | None = None
    group_id: str | None = None
    expires_at: Moment | None = None
    deadline: Moment | None = None
    purged: bool = False
    omitted: list[str] | None = None


class Result(Record):
    """A result; None until the task has completed."""

    task_id: str
    status: Status
    result: dict[str, Any] | None = None
    completed_at: Moment | None = None


class Progress(Record):
    """How far a task is, in percent; `waiting` says why one waits."""

    task_id: str
    status: Status
    progress: int
    estimated_remaining_s: int | None = Field(None, alias="estimatedRemainingTime")
    gpu_id: str | None = None
    start_time: Moment | None = None
    update_time: Moment | None = None
    queue_position: int = 0
    waiting: dict[str, Any] | None = None


class Group(Record):
    """Tasks with one `group_id`; `progress` in percent."""

    group_id: str
    total: int
    status_counts: dict[str, int]
    progress: int
    estimated_remaining_s: int | None = Field(None, alias="estimatedRemainingTime")


class Operation(Record):
    """A bulk operation. A dry run has no id, and only `matched`."""

    operation_id: str = ""
    kind: str = ""
    state: Literal["RUNNING", "DONE"] = "RUNNING"
    matched: int = 0
    done: int = 0
    failed: int = 0


class Drain(Record):
    """Why a node drains; `remaining` attempts still hold its slots, and are handed back at `deadline`."""

    by: str
    since: Moment
    reason: str
    deadline: Moment | None = None
    remaining: int = 0


class Node(Record):
    """A GPU node."""

    gpu_id: str
    status: str
    hostname: str = ""
    vast_ins_id: str | None = None
    ip: str = ""
    port: int = 0
    supported_task_types: list[int] = []
    supported_task_priority: str = ""
    last_heartbeat: Moment | None = None
    failure_count: int = 0
    task_failure_count: int = 0
    version: str = ""
    current_tasks: int = 0
    max_concurrent_tasks: int = 0
    metadata: dict[str, Any] | None = None
    draining: bool = False
    drain: Drain | None = None


class Event(Record):
    """An entry of the event log, and the body of a webhook. `id` is a cursor."""

    id: str
    type: str
    time: Moment
    task_id: str | None = None
    gpu_id: str | None = None
    alert_id: str | None = None
    data: dict[str, Any] = {}
