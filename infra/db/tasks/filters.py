"""Which tasks a list shows, or an operation changes: the conditions of the caller's filter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from infra.db import clock
from workflows.domain.task import ENDS_AS, EndReason, TaskStatus

PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"
"""Run before a statement with conditions: which index is best depends on their values."""
_CONDITIONS = {
    "status": "t.status = %(status)s",
    "task_type": "t.task_type = %(task_type)s",
    "gpu_id": "t.gpu_id = %(gpu_id)s",
    "app": "t.app = %(app)s",
    "user_id": "t.user_id = %(user_id)s",
    "group_id": "t.group_id = %(group_id)s",
    "end_reason": "t.status = %(ends_as)s AND t.end_reason IS NULL",  # what the status says is not stored
    "created_after": "t.created_at >= CAST(%(created_from)s AS timestamptz) + interval '1 ms'",
    "created_before": "t.created_at < %(created_until)s",
    "owner": "t.user_id = %(owner)s",
    "task_ids": "t.task_id = ANY (%(task_ids)s)",
}
"""The condition for each field that is given."""
_STORED_REASON = "t.status = %(ends_as)s AND t.end_reason = %(end_reason)s"


@dataclass(frozen=True)
class TaskFilter:
    """The tasks that fit every field that is given; without any, all of them.

    `created_after` and `created_before` are in Unix milliseconds, and neither includes itself. `owner`: of a caller who
    sees only their own tasks.
    """

    status: TaskStatus | None = None
    task_type: int | None = None
    gpu_id: str | None = None
    app: str | None = None
    user_id: str | None = None
    group_id: str | None = None
    end_reason: EndReason | None = None
    created_after: int | None = None
    created_before: int | None = None
    owner: str | None = None
    task_ids: tuple[str, ...] | None = None

    @property
    def given(self) -> dict[str, object]:
        """The fields that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def kept(self) -> dict[str, object] | None:
        """The fields that the kept counts know; None if there are others."""
        given = self.given
        owner = given.pop("owner", None)
        if owner is not None and given.setdefault("user_id", owner) != owner:
            return None
        return given if given.keys() <= {"status", "task_type", "gpu_id", "user_id"} else None

    @property
    def where(self) -> str:
        """The condition on `tasks t`; `values` are its parameters."""
        conditions = {name: _CONDITIONS[name] for name in self.given}
        if self.end_reason in ENDS_AS:
            conditions["end_reason"] = _STORED_REASON
        return " AND ".join(conditions.values()) or "true"

    @property
    def values(self) -> dict[str, object]:
        """The parameters of `where`."""
        reason = self.end_reason
        return {
            **self.given,
            "task_ids": list(self.task_ids or ()),
            "ends_as": None if reason is None else ENDS_AS.get(reason, reason),
            "created_from": clock.moment(self.created_after),
            "created_until": clock.moment(self.created_before),
        }


assert {field.name for field in fields(TaskFilter)} == set(_CONDITIONS)
