"""The client for asyncio. `sync` has the same for ordinary code."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack

import httpx

from gpu_orchestrator_client import core
from gpu_orchestrator_client.commands import Heard, Lost, Reply, Send, Steps
from gpu_orchestrator_client.models import Event, Group, Node, Operation, Progress, Submitted, Task
from gpu_orchestrator_client.new_task import NewTask, TaskOptions, batches
from gpu_orchestrator_client.options import Options
from gpu_orchestrator_client.streams import Stream
from gpu_orchestrator_client.updates import Update, event_of, update_of

T = TypeVar("T")


class AsyncClient:
    """Calls the API. A call is repeated for a minute while the API is away or busy; each task is created once.

    `url` without `/api/v2`; `app` and `user_id` are those of tasks that name none. Use it as an async context manager,
    or `close` it. Its methods raise the errors of `gpu_orchestrator_client.errors`.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, app: str | None = None, user_id: str | None = None
    ) -> None:
        self._options = Options.of(url, key, app, user_id)
        self._http = httpx.AsyncClient(**self._options.http())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(
        self, task_type: int, payload: Any = None, *, key: str | None = None, **more: Unpack[TaskOptions]
    ) -> Submitted:
        """Create a task. With the same `key` (an Idempotency-Key) and the same task it is created once."""
        new = NewTask(task_type=task_type, payload=payload, **more)
        return await self._run(core.submit(self._options.body(new), key))

    async def submit_many(self, tasks: Iterable[NewTask], *, key: str | None = None) -> list[Submitted]:
        """Create tasks in order, up to a thousand in a transaction. After an error the same `key` and tasks go on."""
        return await self._run(core.submit_many([self._options.body(one) for one in tasks], key))

    async def map(
        self, task_type: int, payloads: Iterable[Any], *, timeout: float = 3600.0, **more: Unpack[TaskOptions]
    ) -> AsyncIterator[dict[str, Any] | None]:
        """Create a task for each payload and yield the results in order. Raises at the first task without one.

        It begins with the first result that is asked for, and creates some thousand tasks ahead. `timeout` in seconds,
        for each result from when it is waited for.
        """
        created = deque[Submitted]()
        bodies = (self._options.body(NewTask(task_type=task_type, payload=one, **more)) for one in payloads)
        for batch in batches(bodies):
            key = core.new_key()
            while (made := await self._run(core.submit_ahead(batch, key, len(created)))) is None:
                for _ in range(min(core.ROOM, len(created))):
                    yield await self.result(created.popleft().task_id, timeout=timeout)
            created += made
            while len(created) > core.AHEAD:
                yield await self.result(created.popleft().task_id, timeout=timeout)
        while created:
            yield await self.result(created.popleft().task_id, timeout=timeout)

    async def result(
        self, task_id: str, *, timeout: float = 3600.0, cancel_on_timeout: bool = False
    ) -> dict[str, Any] | None:
        """Wait for a task's result, at most `timeout` seconds. None if it is forgotten by now.

        Raises TaskFailed, TaskTimedOut; NotYet after `timeout`, and with `cancel_on_timeout` the task is cancelled.
        """
        return await self._run(core.result(task_id, timeout, cancel_on_timeout=cancel_on_timeout))

    async def task(self, task_id: str) -> Task:
        """One task."""
        return await self._run(core.task(task_id))

    async def tasks(self, **filters: Any) -> AsyncIterator[Task]:
        """The tasks that match, newest first; `filters` as the API spells them: `status`, `taskType`, `groupId` …

        It reads page after page. With some filters it ends after the newest 10,000; `createdBefore` leads to older.
        """
        number, is_end, seen = 0, False, set[str]()
        while not is_end:
            number += 1
            page, is_end = await self._run(core.tasks(number, filters))
            for one in page:
                if one.task_id not in seen:  # newer tasks push those of a page to the next one
                    yield one
            seen.update(one.task_id for one in page)

    async def progress(self, task_id: str) -> Progress:
        """How far a task is, or why it waits."""
        return await self._run(core.progress(task_id))

    def watch(self, task_id: str) -> AsyncIterator[Update]:
        """Updates of a task until it has ended. A broken connection is resumed, and nothing is missed."""
        return self._stream(Stream(core.path("tasks", task_id, "stream"), update_of, ends_with="end"))

    async def events(
        self, after: str | None = None, *, types: Sequence[str] | None = None, follow: bool = False
    ) -> AsyncIterator[Event]:
        """The event log after a cursor (an event's id), from the oldest kept by default; with `follow` without end.

        The type `reset` says that the log does not reach back to the cursor: what is kept follows.
        """
        if follow:
            async for one in self._stream(Stream("/stream", event_of, core.stream_params(after, types))):
                yield one
            return
        while True:
            page, after = await self._run(core.events(after, types))
            for one in page:
                yield one
            if len(page) < core.EVENTS:
                return

    async def cancel(self, task_id: str, reason: str | None = None) -> None:
        """Cancel a task. Raises BadRequest if it has ended otherwise."""
        await self._run(core.cancel(task_id, reason))

    async def retry(self, task_id: str, *, key: str | None = None) -> Submitted:
        """Create a task like one that has failed or timed out."""
        return await self._run(core.retry(task_id, key))

    async def set_priority(self, task_id: str, priority: int) -> None:
        """Change the priority of a task that waits."""
        await self._run(core.set_priority(task_id, priority))

    async def cancel_many(
        self,
        *,
        ids: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        reason: str | None = None,
        key: str | None = None,
    ) -> Operation:
        """Cancel tasks by id or by filter, in the background; with `dry_run` only count them (`matched`)."""
        return await self._run(core.bulk("cancel", ids, filter, dry_run=dry_run, reason=reason, key=key))

    async def retry_many(
        self,
        *,
        ids: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        key: str | None = None,
    ) -> Operation:
        """Retry tasks by id or by filter, in the background; with `dry_run` only count them (`matched`)."""
        return await self._run(core.bulk("retry", ids, filter, dry_run=dry_run, key=key))

    async def operation(self, operation_id: str) -> Operation:
        """How far a bulk operation is."""
        return await self._run(core.operation(operation_id))

    async def group(self, group_id: str) -> Group:
        """How far a group of tasks is."""
        return await self._run(core.group(group_id))

    async def nodes(self) -> list[Node]:
        """The GPU nodes; for operators."""
        return await self._run(core.nodes())

    async def drain(self, gpu_id: str, reason: str, deadline: datetime | int | None = None) -> None:
        """Give a node no new task; what still runs at `deadline` is handed back."""
        await self._run(core.drain(gpu_id, reason, deadline))

    async def undrain(self, gpu_id: str) -> None:
        """Let a node have tasks again."""
        await self._run(core.undrain(gpu_id))

    async def _run(self, steps: Steps[T]) -> T:
        heard: Heard = None
        while True:
            try:
                command = steps.send(heard)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(command, Send):
                heard = await self._send(command)
            else:
                heard = None
                await asyncio.sleep(command.seconds)

    async def _send(self, send: Send) -> Reply | Lost:
        began = time.monotonic()
        try:
            answer = await self._http.request(**self._options.request(send))
        except httpx.RequestError as error:
            return Lost(error, time.monotonic() - began)
        return Reply(answer.status_code, dict(answer.headers), answer.content, time.monotonic() - began)

    async def _stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        last: list[T] = []  # is yielded without a connection: the caller may take its time
        while not stream.ended:
            heard: Heard = None
            began = time.monotonic()
            try:
                async with self._http.stream(**self._options.request(stream.request())) as answer:
                    if answer.status_code == 200:
                        stream.opened(Reply(200, dict(answer.headers), b""))
                        async for chunk in answer.aiter_bytes():
                            for one in stream.feed(chunk):
                                if stream.ended:
                                    last.append(one)
                                else:
                                    yield one
                            if stream.ended:
                                break
                    else:
                        heard = Reply(answer.status_code, dict(answer.headers), await answer.aread())
            except httpx.RequestError as error:
                heard = Lost(error, time.monotonic() - began)
            if not stream.ended:
                await asyncio.sleep(stream.pause_s(heard))  # raises what it is no use repeating
        for one in last:
            yield one
