"""A task to submit, and how many go into one call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, TypedDict

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

BATCH = 1000
BATCH_BYTES = 7 * 1024 * 1024
BATCH_TYPES, BATCH_APPS = 16, 64
"""Bounds of the API on one batch; it takes a little more than `BATCH_BYTES`."""

Body = dict[str, Any]


def unix_ms(moment: datetime | int) -> int:
    """A moment as the API takes it: Unix milliseconds. Raises ValueError for one without a time zone."""
    if isinstance(moment, int):
        return moment
    if moment.tzinfo is None:
        raise ValueError("datetime must have a time zone")
    return round(moment.timestamp() * 1000)


def payload_text(payload: Any) -> str:
    """The payload as JSON text; a `str` is taken as it is. Raises ValueError for NaN and infinity."""
    if isinstance(payload, str):
        return payload
    return json.dumps({} if payload is None else payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


Payload = Annotated[Any, BeforeValidator(payload_text)]
Deadline = Annotated[AwareDatetime | int, PlainSerializer(unix_ms)]


class TaskOptions(TypedDict, total=False):
    """Options of a task; an option that is missing or None is left to the API.

    `timeout_ms` is the limit of one attempt; `deadline` an aware datetime, or Unix milliseconds.
    """

    app: str | None
    user_id: str | None
    priority: int | None
    env: str | None
    timeout_ms: int | None
    max_retries: int | None
    group_id: str | None
    expires_in_ms: int | None
    deadline: datetime | int | None
    max_wait_s: int | None
    webhook: str | None


class NewTask(BaseModel):
    """A task to submit, with the fields of `TaskOptions`. A `payload` that is a `str` is sent as it is, anything
    else as JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", validate_default=True)

    task_type: int
    payload: Payload = None
    app: str | None = None
    user_id: str | None = None
    priority: int | None = None
    env: str | None = None
    timeout_ms: int | None = Field(None, alias="timeout")
    max_retries: int | None = None
    group_id: str | None = None
    expires_in_ms: int | None = Field(None, alias="expiresIn")
    deadline: Deadline | None = None
    max_wait_s: int | None = Field(None, alias="maxWait")
    webhook: str | None = None

    def body(self, *, app: str, user_id: str) -> Body:
        """The body for the API; `app` and `user_id` are used if the task names none."""
        given = self.model_dump(by_alias=True, exclude_none=True)
        return {"app": app, "userId": user_id} | given


def batches(tasks: Iterable[Body]) -> Iterator[list[Body]]:
    """The tasks in order, as many at once as the API takes."""
    batch: list[Body] = []
    size, types, apps = 0, set[Any](), set[Any]()
    for task in tasks:
        length = len(json.dumps(task).encode())
        types.add(task.get("taskType"))
        apps.add(task.get("app"))
        if batch and (
            len(batch) == BATCH or size + length > BATCH_BYTES or len(types) > BATCH_TYPES or len(apps) > BATCH_APPS
        ):
            yield batch
            batch, size, types, apps = [], 0, {task.get("taskType")}, {task.get("app")}
        batch.append(task)
        size += length
    if batch:
        yield batch
