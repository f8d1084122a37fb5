"""Groups of tasks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.dependencies import Context, ContextOf
from api.http.envelope import Envelope, ok
from api.middleware.authentication import CallerOf
from api.routes import access
from api.schemas.groups import Group
from api.schemas.params import GroupName
from infra.db.ops import counters
from infra.db.ops.kinds import by_status, by_type
from infra.db.slots.eligibility import Wanted
from infra.db.slots.wait_estimate import until_start_s
from infra.db.tasks import groups
from infra.db.tasks.groups import Last
from workflows.domain.errors import GroupNotFound
from workflows.domain.task import TERMINAL, UNFINISHED, TaskStatus

router = APIRouter(prefix="/groups", tags=["任务管理"])

MOST_TYPES = 16
"""Types with unfinished tasks up to which the rest of a group is estimated."""


@router.get(
    "/{groupId}",
    response_model=Envelope[Group],
    summary="扩展 获取任务组进度",
    description="`groupId` 与所有者均相同的任务为一组：用户只看到自己的，运维人员看到所有用户的。",
)
async def get_group(context: ContextOf, caller: CallerOf, group_id: GroupName) -> dict[str, Any]:
    owner = access.owner_seen_by(caller)
    kinds = await context.database.single(lambda c: counters.of_group(c, group_id, owner))
    if not kinds:
        raise GroupNotFound
    total = sum(kinds.values())
    counts, unfinished = by_status(kinds), set(by_type(kinds, UNFINISHED))
    ended = sum(counts[status] for status in TERMINAL)
    return ok(
        Group(
            groupId=group_id,
            total=total,
            statusCounts={status: counts[status] for status in TaskStatus},
            progress=100 * ended // total,
            estimatedRemainingTime=await _remaining_s(context, group_id, owner, unfinished),
        )
    )


async def _remaining_s(context: Context, group_id: str, owner: str | None, types: set[int | None]) -> int | None:
    """Seconds until the last task of these types has ended, or None if that is unknown."""
    task_types = sorted(one for one in types if one is not None)
    if len(types) > MOST_TYPES or None in types:
        return None
    waiting = await context.database.single(lambda c: groups.last_waiting(c, group_id, owner, task_types))
    ends = [await _end_s(context, task_type, waiting.get(task_type)) for task_type in task_types]
    known = [end for end in ends if end is not None]
    return round(max(known, default=0.0)) if len(known) == len(ends) else None


async def _end_s(context: Context, task_type: int, last: Last | None) -> float | None:
    """Seconds until the last waiting task of a type ends, or, if none waits, what one usually takes."""
    if last is None:
        return await context.forecast.usual_s(task_type)
    capacity = await context.forecast.of(Wanted.of(last))
    ahead = await context.forecast.ahead(last.place, capacity.pool)
    start_s = until_start_s(ahead, capacity.ends_s, capacity.usual_s)
    return None if start_s is None else start_s + capacity.usual_s
