"""The messages of a task's stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from gpu_orchestrator_client.errors import BadAnswer
from gpu_orchestrator_client.models import Event, Record, Status, Task


class Snapshot(Record):
    """The task as it is, without payload and result. It comes first, and again where events were missed."""

    kind: Literal["snapshot"]
    task: Task


class Change(Record):
    """An event of the task: it was created, was started, is tried again, has ended."""

    kind: Literal["status"]
    event: Event

    @property
    def status(self) -> Status:
        """The task's status since this event."""
        return Status(self.event.data["status"])


class Attempt(Record):
    """The attempt that runs, and its node."""

    kind: Literal["attempt"]
    attempt: int
    gpu_id: str


class Place(Record):
    """The place in the queue, from 1, and why the task waits; `estimated_wait_s` is None if it is unknown."""

    kind: Literal["place"]
    queue_position: int
    estimated_wait_s: int | None = Field(None, alias="estimatedWaitTime")
    reason: str | None = None


class Percent(Record):
    """How far the attempt is, in percent."""

    kind: Literal["progress"]
    progress: int
    estimated_remaining_s: int | None = Field(None, alias="estimatedRemainingTime")


class End(Record):
    """The last message: the task has ended. Its payload and result are left out."""

    kind: Literal["end"]
    task: Task


Update = Snapshot | Change | Attempt | Place | Percent | End
_OF_KIND: TypeAdapter[Update] = TypeAdapter(Annotated[Update, Field(discriminator="kind")])
_INSIDE = {"snapshot": "task", "end": "task", "status": "event"}
_KINDS = {*_INSIDE, "attempt", "place", "progress"}


def update_of(kind: str, data: dict[str, Any]) -> Update | None:
    """A message; None for one of a kind that is not known yet. Raises BadAnswer."""
    if kind not in _KINDS:
        return None
    try:
        return _OF_KIND.validate_python({"kind": kind, **({_INSIDE[kind]: data} if kind in _INSIDE else data)})
    except ValidationError as error:
        raise BadAnswer(f"not a message of the API: {error}") from error


def event_of(kind: str, data: dict[str, Any]) -> Event | None:
    """An event of the log. Raises BadAnswer."""
    try:
        return Event.model_validate({"type": kind, **data})
    except ValidationError as error:
        raise BadAnswer(f"not an event of the API: {error}") from error
