"""`Prefer: wait=N` (RFC 7240): an answer once the task has ended, or after N seconds as it is.

A call that waits holds neither a connection to the database nor its caller's turn. A call above the limit is answered
at once, without `Preference-Applied`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any

from fastapi import Header, Request
from pydantic import WithJsonSchema

from api.dependencies import Context
from api.middleware.authentication import caller_in
from api.middleware.in_flight import turn_of
from infra.db.access.callers import Caller
from infra.db.session import is_unavailable
from infra.db.tasks import queries as task_queries
from infra.events.allowance import Spent
from workflows.domain.event import EventType
from workflows.domain.role import Role

MOST_S = 60
AT_ONCE = {Role.USER: 100}
"""Calls of a user's keys that wait in one process."""

_Lines = Annotated[list[str], WithJsonSchema({"type": "string"})]  # one line usually; generators know no list here
Prefer = Annotated[
    _Lines | None,
    Header(description="扩展（可选）：`wait=N` 表示等到任务结束，至多 N 秒（不超过 60），届时按当时的状态返回"),
]
APPLIED = {
    "Preference-Applied": {"description": "扩展：已等待时为 `wait=N`", "required": False, "schema": {"type": "string"}}
}

_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,18})\"?\s*(;.*)?", re.IGNORECASE)


def wait_s(prefer: Sequence[str] | None) -> int | None:
    """Seconds that a caller prefers to wait, at most MOST_S. What is malformed is ignored, as RFC 7240 demands."""
    for one in ",".join(prefer or ()).split(","):
        if (found := _WAIT.fullmatch(one)) is not None:
            return min(int(found[1]), MOST_S)
    return None


async def for_end(request: Request, context: Context, task_id: str, prefer: Sequence[str] | None) -> dict[str, str]:
    """Wait for a task's end if that is preferred. Returns the header that says so; none if there was no room for it."""
    seconds, caller = wait_s(prefer), caller_in(request.scope)
    if seconds is None or caller is None:
        return {}
    try:
        with context.waits.take(caller.lineage, AT_ONCE.get(caller.role)):
            await _ended(request, context, caller, task_id, seconds)
    except Spent:
        return {}
    except Exception as error:
        if not is_unavailable(error):
            raise
        return {}  # what was created is created
    return {"Preference-Applied": f"wait={seconds}"}


async def _ended(request: Request, context: Context, caller: Caller, task_id: str, seconds: int) -> None:
    topic = [("task", task_id)]
    async with context.hub.subscribe(topic, caller.key_id, {EventType.TASK_ENDED}) as ends:
        ends.listen()
        row = await context.database.single(lambda c: task_queries.snapshot(c, task_id))
        if row is not None and row.completed_at is None:
            async with turn_of(request).lent():
                await _first_of(ends.next(seconds), _left(request))


async def _left(request: Request) -> None:
    """Return once the caller is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
