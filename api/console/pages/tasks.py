"""Tasks: filters as words in the URL, the total of the same set, and what is done to many at once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from api.console.page import EVERYBODY, Asked, Page
from api.console.paging import PER_PAGE, Pager
from api.console.texts import N_
from api.routes import access
from api.routes.roles import OPERATORS
from api.schemas.operations import Filter
from infra.db.ops import counters
from infra.db.ops.kinds import by_status
from infra.db.tasks import lists
from infra.db.tasks.filters import TaskFilter
from infra.db.tasks.lists import MOST_COUNTED
from workflows.domain.event import OF_TASKS
from workflows.domain.task import EndReason, TaskStatus

FIELDS = ("app", "userId", "groupId", "gpuId", "taskType")
"""Filters that are typed."""
SINCE_S = {"900": N_("15 minutes"), "3600": N_("1 hour"), "86400": N_("24 hours"), "604800": N_("7 days")}
REASONS = [one for one in EndReason if one.value not in set(TaskStatus)]
"""End reasons that a status does not say."""


async def contents(asked: Asked) -> dict[str, Any]:
    given = _given(asked)
    number, task_id = Pager.number_in(asked.query), asked.query.get("taskId", "")
    base = {
        "given": given,
        "task_id": task_id,
        "since": asked.query.get("since", ""),
        "sinces": SINCE_S,
        "fields": FIELDS if asked.caller.role in OPERATORS else ("app", "groupId", "taskType"),
        "statuses": list(TaskStatus),
        "reasons": REASONS,
        "sees_nodes": asked.caller.role in OPERATORS,
    }
    try:
        filter_ = Filter.model_validate(given) if given else None
    except ValidationError as error:
        wrong = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
        return {**base, "wrong": wrong, "tasks": [], "total": 0, "is_exact": True, "pager": Pager(1, 0, asked.query),
                "counts": Counter(), "bulk": None}  # fmt: skip
    chosen = filter_.chosen(None) if filter_ is not None else TaskFilter()
    chosen = replace(chosen, owner=access.owner_seen_by(asked.caller))
    if task_id:
        chosen = replace(chosen, task_ids=(task_id,))
    rows, total = await asked.context.database.run(
        lambda c: lists.page(c, chosen, limit=PER_PAGE, offset=(number - 1) * PER_PAGE, room=0)
    )
    is_exact = chosen.kept is not None or total <= MOST_COUNTED
    total = total if is_exact else MOST_COUNTED
    return {
        **base,
        "wrong": [],
        "tasks": rows,
        "total": total,
        "is_exact": is_exact,
        "pager": Pager(number, total, asked.query, is_exact),
        "counts": await _counts(asked, chosen),
        "bulk": {"ids": [task_id]} if task_id else {"filter": given or {"all": True}},
    }


def _given(asked: Asked) -> dict[str, Any]:
    """The filter of the API that the URL's words are."""
    names = (*FIELDS, "status", "endReason", "createdAfter", "createdBefore")
    given: dict[str, Any] = {name: value for name in names if (value := asked.query.get(name, ""))}
    for name in ("taskType", "createdAfter", "createdBefore"):
        if (text := given.get(name, "")) and text.removeprefix("-").isdecimal() and len(text) < 19:
            given[name] = int(text)
    if (since := asked.query.get("since", "")) in SINCE_S and "createdAfter" not in given:
        given["createdAfter"] = (int(time.time()) // 60 * 60 - int(since)) * 1000
    return given


async def _counts(asked: Asked, chosen: TaskFilter) -> Counter[str]:
    """The tasks of each status, with the other filters as they are; nothing where no count is kept."""
    kept = replace(chosen, status=None).kept
    if kept is None:
        return Counter()
    kinds = await asked.context.database.single(lambda c: counters.tasks_by_kind(c, **kept))  # type: ignore[arg-type]
    return by_status(kinds, chosen.task_type)


PAGE = Page(
    "tasks",
    "/tasks",
    N_("Tasks"),
    contents,
    roles=EVERYBODY,
    key="t",
    events=frozenset(OF_TASKS),
)
