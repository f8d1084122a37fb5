"""The client for ordinary code. `aio` has the same for asyncio."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack

import httpx

from gpu_orchestrator_client import core
from gpu_orchestrator_client.commands import Heard, Lost, Reply, Send, Steps, run
from gpu_orchestrator_client.models import Event, Group, Node, Operation, Progress, Submitted, Task
from gpu_orchestrator_client.new_task import NewTask, TaskOptions, batches
from gpu_orchestrator_client.options import Options
from gpu_orchestrator_client.streams import Stream
from gpu_orchestrator_client.updates import Update, event_of, update_of

T = TypeVar("T")


class Client:
    """Calls the API. A call is repeated for a minute while the API is away or busy; each task is created once.

    `url` without `/api/v2`; `app` and `user_id` are those of tasks that name none. Use it as a context manager,
    or `close` it. Its methods raise the errors of `gpu_orchestrator_client.errors`.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, app: str | None = None, user_id: str | None = None
    ) -> None:
        self._options = Options.of(url, key, app, user_id)
        self._http = httpx.Client(**self._options.http())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self, task_type: int, payload: Any = None, *, key: str | None = None, **more: Unpack[TaskOptions]
    ) -> Submitted:
        """Create a task. With the same `key` (an Idempotency-Key) and the same task it is created once."""
        new = NewTask(task_type=task_type, payload=payload, **more)
        return self._run(core.submit(self._options.body(new), key))

    def submit_many(self, tasks: Iterable[NewTask], *, key: str | None = None) -> list[Submitted]:
        """Create tasks in order, up to a thousand in a transaction. After an error the same `key` and tasks go on."""
        return self._run(core.submit_many([self._options.body(one) for one in tasks], key))

    def map(
        self, task_type: int, payloads: Iterable[Any], *, timeout: float = 3600.0, **more: Unpack[TaskOptions]
    ) -> Iterator[dict[str, Any] | None]:
        """Create a task for each payload and yield the results in order. Raises at the first task without one.

        It begins with the first result that is asked for, and creates some thousand tasks ahead. `timeout` in seconds,
        for each result from when it is waited for.
        """
        created = deque[Submitted]()
        bodies = (self._options.body(NewTask(task_type=task_type, payload=one, **more)) for one in payloads)
        for batch in batches(bodies):
            key = core.new_key()
            while (made := self._run(core.submit_ahead(batch, key, len(created)))) is None:
                for _ in range(min(core.ROOM, len(created))):
                    yield self.result(created.popleft().task_id, timeout=timeout)
            created += made
            while len(created) > core.AHEAD:
                yield self.result(created.popleft().task_id, timeout=timeout)
        while created:
            yield self.result(created.popleft().task_id, timeout=timeout)

    def result(
        self, task_id: str, *, timeout: float = 3600.0, cancel_on_timeout: bool = False
    ) -> dict[str, Any] | None:
        """Wait for a task's result, at most `timeout` seconds. None if it is forgotten by now.

        Raises TaskFailed, TaskTimedOut; NotYet after `timeout`, and with `cancel_on_timeout` the task is cancelled.
        """
        return self._run(core.result(task_id, timeout, cancel_on_timeout=cancel_on_timeout))

    def task(self, task_id: str) -> Task:
        """One task."""
        return self._run(core.task(task_id))

    def tasks(self, **filters: Any) -> Iterator[Task]:
        """The tasks that match, newest first; `filters` as the API spells them: `status`, `taskType`, `groupId` …

        It reads page after page. With some filters it ends after the newest 10,000; `createdBefore` leads to older.
        """
        number, is_end, seen = 0, False, set[str]()
        while not is_end:
            number += 1
            page, is_end = self._run(core.tasks(number, filters))
            for one in page:
                if one.task_id not in seen:  # newer tasks push those of a page to the next one
                    yield one
            seen.update(one.task_id for one in page)

    def progress(self, task_id: str) -> Progress:
        """How far a task is, or why it waits."""
        return self._run(core.progress(task_id))

    def watch(self, task_id: str) -> Iterator[Update]:
        """Updates of a task until it has ended. A broken connection is resumed, and nothing is missed."""
        return self._stream(Stream(core.path("tasks", task_id, "stream"), update_of, ends_with="end"))

    def events(
        self, after: str | None = None, *, types: Sequence[str] | None = None, follow: bool = False
    ) -> Iterator[Event]:
        """The event log after a cursor (an event's id), from the oldest kept by default; with `follow` without end.

        The type `reset` says that the log does not reach back to the cursor: what is kept follows.
        """
        if follow:
            yield from self._stream(Stream("/stream", event_of, core.stream_params(after, types)))
            return
        while True:
            page, after = self._run(core.events(after, types))
            yield from page
            if len(page) < core.EVENTS:
                return

    def cancel(self, task_id: str, reason: str | None = None) -> None:
        """Cancel a task. Raises BadRequest if it has ended otherwise."""
        self._run(core.cancel(task_id, reason))

    def retry(self, task_id: str, *, key: str | None = None) -> Submitted:
        """Create a task like one that has failed or timed out."""
        return self._run(core.retry(task_id, key))

    def set_priority(self, task_id: str, priority: int) -> None:
        """Change the priority of a task that waits."""
        self._run(core.set_priority(task_id, priority))

    def cancel_many(
        self,
        *,
        ids: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        reason: str | None = None,
        key: str | None = None,
    ) -> Operation:
        """Cancel tasks by id or by filter, in the background; with `dry_run` only count them (`matched`)."""
        return self._run(core.bulk("cancel", ids, filter, dry_run=dry_run, reason=reason, key=key))

    def retry_many(
        self,
        *,
        ids: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        key: str | None = None,
    ) -> Operation:
        """Retry tasks by id or by filter, in the background; with `dry_run` only count them (`matched`)."""
        return self._run(core.bulk("retry", ids, filter, dry_run=dry_run, key=key))

    def operation(self, operation_id: str) -> Operation:
        """How far a bulk operation is."""
        return self._run(core.operation(operation_id))

    def group(self, group_id: str) -> Group:
        """How far a group of tasks is."""
        return self._run(core.group(group_id))

    def nodes(self) -> list[Node]:
        """The GPU nodes; for operators."""
        return self._run(core.nodes())

    def drain(self, gpu_id: str, reason: str, deadline: datetime | int | None = None) -> None:
        """Give a node no new task; what still runs at `deadline` is handed back."""
        self._run(core.drain(gpu_id, reason, deadline))

    def undrain(self, gpu_id: str) -> None:
        """Let a node have tasks again."""
        self._run(core.undrain(gpu_id))

    def _run(self, steps: Steps[T]) -> T:
        return run(steps, self._send, lambda _, seconds: time.sleep(seconds))

    def _send(self, send: Send) -> Reply | Lost:
        began = time.monotonic()
        try:
            answer = self._http.request(**self._options.request(send))
        except httpx.RequestError as error:
            return Lost(error, time.monotonic() - began)
        return Reply(answer.status_code, dict(answer.headers), answer.content, time.monotonic() - began)

    def _stream(self, stream: Stream[T]) -> Iterator[T]:
        last: list[T] = []  # is yielded without a connection: the caller may take its time
        while not stream.ended:
            heard: Heard = None
            began = time.monotonic()
            try:
                with self._http.stream(**self._options.request(stream.request())) as answer:
                    if answer.status_code == 200:
                        stream.opened(Reply(200, dict(answer.headers), b""))
                        for chunk in answer.iter_bytes():
                            for one in stream.feed(chunk):
                                if stream.ended:
                                    last.append(one)
                                else:
                                    yield one
                            if stream.ended:
                                break
                    else:
                        heard = Reply(answer.status_code, dict(answer.headers), answer.read())
            except httpx.RequestError as error:
                heard = Lost(error, time.monotonic() - began)
            if not stream.ended:
                time.sleep(stream.pause_s(heard))  # raises what it is no use repeating
        yield from last
