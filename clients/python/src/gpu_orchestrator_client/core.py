"""The operations of the API: what to send, and what the answers mean. No input or output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from gpu_orchestrator_client.answers import get, parsed
from gpu_orchestrator_client.calls import (
    LONGEST_PAUSE_S,
    PAUSE_S,
    REPEAT_FOR_S,
    call,
    error_of,
    is_last,
    may_repeat,
    pause_after,
)
from gpu_orchestrator_client.commands import Lost, Pause, Reply, Send, Steps, given
from gpu_orchestrator_client.errors import (
    BadRequest,
    NotYet,
    TaskFailed,
    TaskTimedOut,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from gpu_orchestrator_client.models import Event, Group, Node, Operation, Progress, Result, Status, Submitted, Task
from gpu_orchestrator_client.naming import new_key as new_key
from gpu_orchestrator_client.naming import path as path
from gpu_orchestrator_client.new_task import Body, batches, unix_ms

M = TypeVar("M")
WAIT_S = 30
"""The longest time that one call waits for a task's end."""
GRACE_S = 5.0
"""How much longer than the caller's time a call may take."""
PAGE = 100
EVENTS = 1000
AHEAD = 4000
"""Tasks that `map` creates ahead of the result that it waits for: many, and fewer than an owner may have waiting."""
ROOM = 100
"""Results that `map` yields between two tries of a batch for which there is no room."""
BUSY = frozenset({429})
AWAY = (Unreachable, Unavailable, TooManyRequests)


def _once(key: str | None) -> dict[str, str]:
    key = new_key() if key is None else key
    if not (key.isascii() and key.isprintable() and key.strip()):
        raise ValueError("Idempotency-Key must be one line of ASCII")
    return {"Idempotency-Key": key}


def submit(task: Body, key: str | None = None) -> Steps[Submitted]:
    """Create a task. With `maxWait`, 429 is the answer and not repeated."""
    send = Send("POST", "/tasks", json=task, headers=_once(key), refusals=_refusals([task]))
    return parsed((yield from call(send)), Submitted)


def submit_many(tasks: Sequence[Body], key: str | None = None) -> Steps[list[Submitted]]:
    """Create tasks in order, up to 1,000 in a transaction; each such batch is all or nothing."""
    created: list[Submitted] = []
    key = new_key() if key is None else key
    for number, batch in enumerate(batches(tasks)):
        created += yield from submit_batch(batch, f"{key}-{number}")
    return created


def submit_batch(batch: Sequence[Body], key: str, refusals: frozenset[int] = frozenset()) -> Steps[list[Submitted]]:
    """Create tasks in order in one transaction."""
    send = Send("POST", "/tasks/batch", json={"tasks": batch}, headers=_once(key), refusals=refusals | _refusals(batch))
    return parsed((yield from call(send)), list[Submitted])


def submit_ahead(batch: Sequence[Body], key: str, ahead: int) -> Steps[list[Submitted] | None]:
    """Create tasks behind `ahead` others. None while there is no room, and the ends of those may make some."""
    if not ahead or _refusals(batch):
        return (yield from submit_batch(batch, key))
    try:
        return (yield from submit_batch(batch, key, BUSY))
    except TooManyRequests:
        return None


def _refusals(tasks: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    return BUSY if any("maxWait" in one for one in tasks) else frozenset()


def result(task_id: str, timeout_s: float, *, cancel_on_timeout: bool) -> Steps[dict[str, Any] | None]:
    """Wait for a task's result. Raises TaskFailed, TaskTimedOut, NotYet.

    While the API is away it waits on, for as long as the caller does. The last look, at the end of the time, does not
    wait, so that a task that has ended is always seen. It may take GRACE_S longer, and so may the cancel.
    An API that is away at the end raises Unreachable, Unavailable or TooManyRequests: nothing is known of the task.
    """
    if (ended := (yield from _end_within(task_id, timeout_s))) is not None:
        return (yield from _of_ended(ended))
    try:
        found = parsed((yield from call(_look(task_id, 0), 0, least_tries=1)), Result)
        if found.status.is_end:
            return (yield from _of_ended(found))
    except AWAY:
        if not cancel_on_timeout:
            raise
    if cancel_on_timeout and (yield from _has_ended_meanwhile(task_id)):
        return (yield from _of_ended((yield from get(path("tasks", task_id, "result"), Result))))
    raise NotYet(task_id, timeout_s)


def _end_within(task_id: str, left_s: float) -> Steps[Result | None]:
    """Look until a task has ended. None if that takes longer, or the API is away."""
    backoff_s = PAUSE_S
    while left_s > 0:
        send = _look(task_id, min(left_s, WAIT_S))
        heard = yield send
        assert heard is not None
        left_s -= heard.took_s
        if (found := _found(send, heard)) is None:
            pause_s, backoff_s = pause_after(heard, backoff_s), min(2 * backoff_s, LONGEST_PAUSE_S)
        elif found.status.is_end:
            return found
        else:
            pause_s, backoff_s = (1.0 if heard.took_s < 1 else 0.0), PAUSE_S  # a server that does not wait
        if (pause_s := min(pause_s, left_s)) > 0:
            yield Pause(pause_s)
            left_s -= pause_s
    return None


def _has_ended_meanwhile(task_id: str) -> Steps[bool]:
    """Cancel a task whose result is not waited for any more. Returns whether it had ended."""
    try:
        yield from cancel(task_id, "the caller's time is over", repeat_for_s=GRACE_S)
    except BadRequest:
        return True
    return False


def _look(task_id: str, wait_s: float) -> Send:
    headers = {"Prefer": f"wait={math.ceil(wait_s)}"} if wait_s > 0 else {}
    return Send("GET", path("tasks", task_id, "result"), headers=headers, timeout_s=wait_s + GRACE_S)


def _found(send: Send, heard: Reply | Lost) -> Result | None:
    """The result as it is; None while the API is away or busy."""
    if isinstance(heard, Reply) and heard.status == 200:
        return parsed(heard, Result)
    if not may_repeat(send, heard):
        raise error_of(heard)
    return None


def _of_ended(found: Result) -> Steps[dict[str, Any] | None]:
    if found.status is Status.COMPLETED:
        return found.result
    ended = yield from task(found.task_id)
    raise (TaskFailed if ended.status is Status.FAILED else TaskTimedOut)(ended)


def task(task_id: str) -> Steps[Task]:
    return get(path("tasks", task_id), Task)


def tasks(page: int, filters: Mapping[str, Any]) -> Steps[tuple[list[Task], bool]]:
    """A page of tasks, newest first, and whether it is the last one that the API shows."""
    return _page("/tasks", list[Task], page, filters)


def progress(task_id: str) -> Steps[Progress]:
    return get(path("tasks", task_id, "progress"), Progress)


def events(after: str | None, types: Sequence[str] | None) -> Steps[tuple[list[Event], str | None]]:
    """Events after a cursor, and the next cursor."""
    reply = yield from call(Send("GET", "/events", {**stream_params(after, types), "limit": EVENTS}))
    return parsed(reply, list[Event]), reply.headers.get("x-next-cursor", after)


def stream_params(after: str | None, types: Sequence[str] | None) -> dict[str, str]:
    """The parameters of a stream of events."""
    return given(after=after, types=",".join(types) if types else None)


def cancel(task_id: str, reason: str | None = None, *, repeat_for_s: float = REPEAT_FOR_S) -> Steps[None]:
    """Cancel a task. Raises BadRequest if it has ended otherwise."""
    body, timeout_s = given(reason=reason), min(Send.timeout_s, repeat_for_s)
    yield from call(Send("POST", path("tasks", task_id, "cancel"), json=body, timeout_s=timeout_s), repeat_for_s)


def retry(task_id: str, key: str | None = None) -> Steps[Submitted]:
    reply = yield from call(Send("POST", path("tasks", task_id, "retry"), headers=_once(key)))
    return parsed(reply, Submitted)


def set_priority(task_id: str, priority: int) -> Steps[None]:
    yield from call(Send("PATCH", path("tasks", task_id), json={"priority": priority}))


def bulk(
    kind: str,
    ids: Sequence[str] | None,
    filter: Mapping[str, Any] | None,
    *,
    dry_run: bool,
    reason: str | None = None,
    key: str | None = None,
) -> Steps[Operation]:
    """Cancel or retry many tasks: by ids or by a filter. Raises ValueError unless it is one of both."""
    if (ids is None) == (filter is None):
        raise ValueError("choose tasks by ids or by a filter")
    body = given(ids=None if ids is None else list(ids), filter=filter, dryRun=dry_run or None, reason=reason)
    reply = yield from call(Send("POST", f"/tasks/{kind}", json=body, headers=_once(key)))
    known = {"kind": kind.upper(), "state": "DONE" if dry_run else "RUNNING"}
    return parsed(reply, Operation).model_copy(update=known)


def operation(operation_id: str) -> Steps[Operation]:
    return get(path("operations", operation_id), Operation)


def group(group_id: str) -> Steps[Group]:
    return get(path("groups", group_id), Group)


def nodes() -> Steps[list[Node]]:
    """All nodes, page after page."""
    found: dict[str, Node] = {}
    number, is_end = 0, False
    while not is_end:
        number += 1
        page, is_end = yield from _page("/gpus", list[Node], number)
        for one in page:
            found.setdefault(one.gpu_id, one)  # new nodes push those of a page to the next one
    return list(found.values())


def _page(
    path: str, kind: type[list[M]], number: int, filters: Mapping[str, Any] | None = None
) -> Steps[tuple[list[M], bool]]:
    """A page of a list, and whether it is the last one that the API shows."""
    reply = yield from call(Send("GET", path, given(page=number, size=PAGE, **(filters or {}))))
    entries = parsed(reply, kind)
    return entries, is_last(len(entries), PAGE, reply.headers)


def drain(gpu_id: str, reason: str, deadline: datetime | int | None) -> Steps[None]:
    body = given(reason=reason, deadline=None if deadline is None else unix_ms(deadline))
    yield from call(Send("POST", path("gpus", gpu_id, "drain"), json=body))


def undrain(gpu_id: str) -> Steps[None]:
    yield from call(Send("POST", path("gpus", gpu_id, "undrain")))
