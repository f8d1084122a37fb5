"""Both clients over an API that is played in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest

from gpu_orchestrator_client import AsyncClient, Client, NewTask, core
from tests.client.test_core import CREATED, TASK

Handler = Callable[[httpx.Request], httpx.Response]


def ok(data: Any) -> httpx.Response:
    return httpx.Response(200, json={"code": 200, "message": "成功", "data": data})


def everything(handler: Handler, use: Callable[[Any], Any], kind: type) -> list[Any]:
    """All items that a method of either client yields or returns."""
    transport = httpx.MockTransport(handler)
    if kind is Client:
        with Client("http://api", "key") as client:
            client._http = httpx.Client(base_url="http://api/api/v2", transport=transport)
            found: Iterator[Any] = use(client)
            return list(found)

    async def run() -> list[Any]:
        async with AsyncClient("http://api", "key") as client:
            client._http = httpx.AsyncClient(base_url="http://api/api/v2", transport=transport)
            found: AsyncIterator[Any] = use(client)
            return [one async for one in found]

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@BOTH
def test_a_map_creates_ahead_but_not_everything(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "AHEAD", 1000)
    created: list[int] = []
    most = 0

    def api(request: httpx.Request) -> httpx.Response:
        nonlocal most
        if request.method == "POST":
            numbers = [json.loads(one["payload"]) for one in json.loads(request.content)["tasks"]]
            created.extend(numbers)
            return ok([{**CREATED, "taskId": str(n)} for n in numbers])
        number = int(request.url.path.split("/")[-2])
        most = max(most, len(created) - number)
        return ok({"taskId": str(number), "status": "COMPLETED", "result": {"n": number}})

    total = 3500
    found = everything(api, lambda client: client.map(2, range(total)), kind)
    assert [one["n"] for one in found] == list(range(total)) == created
    assert most == 2000


@BOTH
def test_a_map_makes_room_where_its_owner_has_too_many_waiting(kind: type) -> None:
    waiting: set[int] = set()
    keys: dict[str, int] = {}

    def api(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            numbers = [json.loads(one["payload"]) for one in json.loads(request.content)["tasks"]]
            key = request.headers["Idempotency-Key"]
            assert keys.setdefault(key, numbers[0]) == numbers[0]
            if len(waiting) + len(numbers) > 1500:
                return httpx.Response(429, json={"code": 429, "message": "排队任务过多", "data": None})
            waiting.update(numbers)
            return ok([{**CREATED, "taskId": str(n)} for n in numbers])
        number = int(request.url.path.split("/")[-2])
        waiting.discard(number)
        return ok({"taskId": str(number), "status": "COMPLETED", "result": {"n": number}})

    found = everything(api, lambda client: client.map(2, range(3500)), kind)
    assert [one["n"] for one in found] == list(range(3500))
    assert sorted(keys.values()) == [0, 1000, 2000, 3000]


@BOTH
def test_a_task_that_newer_ones_push_to_the_next_page_comes_once(kind: type) -> None:
    ids = [f"t{n}" for n in range(150)]
    pages = {"1": ids[:100], "2": ids[97:]}

    def api(request: httpx.Request) -> httpx.Response:
        assert request.url.params["groupId"] == "g"
        return ok([{**TASK, "taskId": one} for one in pages[request.url.params["page"]]])

    found = everything(api, lambda client: client.tasks(groupId="g"), kind)
    assert [one.task_id for one in found] == ids


def listed(entries: list[dict[str, Any]], request: httpx.Request, bound: int | None = None) -> httpx.Response:
    """A page of a list as the API answers it, with no more than `bound` entries to be had."""
    params = request.url.params
    number, size = int(params.get("page", 1)), int(params.get("size", 1000))
    if bound is not None and (number - 1) * size >= bound:
        return httpx.Response(400, json={"code": 400, "message": "page 超出范围", "data": None})
    answer = ok(entries[(number - 1) * size : number * size])
    shown = len(entries) if bound is None else bound
    rels = ["first", *(["next"] if number * size < shown else [])]
    answer.headers["Link"] = ", ".join(f'</api/v2/x?page={number + 1}>; rel="{rel}"' for rel in rels)
    return answer


@BOTH
def test_tasks_end_with_the_last_page_that_the_api_shows(kind: type) -> None:
    rows = [{**TASK, "taskId": f"t{n}"} for n in range(350)]
    found = everything(lambda asked: listed(rows, asked, bound=300), lambda client: client.tasks(app="a"), kind)
    assert [one.task_id for one in found] == [one["taskId"] for one in rows[:300]]


@BOTH
def test_all_nodes_are_listed(kind: type) -> None:
    rows = [{"gpuId": f"g{n}", "status": "ACTIVE"} for n in range(1200)]

    def use(client: Any) -> Any:
        async def nodes() -> AsyncIterator[Any]:
            for one in await client.nodes():
                yield one

        return client.nodes() if kind is Client else nodes()

    found = everything(lambda asked: listed(rows, asked), use, kind)
    assert [one.gpu_id for one in found] == [one["gpuId"] for one in rows]


def test_what_creates_has_a_key_of_its_own_or_the_callers() -> None:
    keys: list[str] = []

    def api(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"].removesuffix("-0"))
        return ok([CREATED] if request.url.path.endswith("batch") else {**CREATED, "operationId": "op", "matched": 1})

    with Client("http://api", "key") as client:
        client._http = httpx.Client(base_url="http://api/api/v2", transport=httpx.MockTransport(api))
        for key in ("mine", None):
            client.submit(2, {}, key=key)
            client.submit_many([NewTask(task_type=2)], key=key)
            client.retry("t1", key=key)
            client.retry_many(ids=["t1"], key=key)
            client.cancel_many(ids=["t1"], key=key)
    assert keys[:5] == ["mine"] * 5
    assert len(set(keys)) == 6


@BOTH
def test_the_event_log_is_read_to_its_end(kind: type) -> None:
    def api(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("after", "0"))
        events = [{"id": str(n + 1), "type": "task.ended", "time": 1, "data": {}} for n in range(first, 1500)][:1000]
        answer = ok(events)
        answer.headers["X-Next-Cursor"] = str(first + len(events))
        return answer

    found = everything(api, lambda client: client.events(types=["task.ended"]), kind)
    assert [one.id for one in found] == [str(n + 1) for n in range(1500)]


@BOTH
def test_a_stream_that_breaks_resumes(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_orchestrator_client.calls.PAUSE_S", 0.01)
    monkeypatch.setattr("gpu_orchestrator_client.streams.PAUSE_S", 0.01)
    asked: list[str | None] = []

    def api(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        if len(asked) == 1:
            raise httpx.ConnectError("refused")
        if len(asked) == 2:
            return httpx.Response(503, json={"message": "away"})
        event = f"id: e{len(asked)}\nevent: snapshot\ndata: {json.dumps(TASK)}\n\nid: torn"
        end = f"event: end\ndata: {json.dumps(TASK)}\n\n"
        text = end if len(asked) == 4 else event
        return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream; charset=utf-8"})

    found = everything(api, lambda client: client.watch("t1"), kind)
    assert [one.kind for one in found] == ["snapshot", "end"]
    assert asked == [None, None, None, "e3"]


class Watched(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that has ended as a message, though not as a connection."""

    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for kind in ("snapshot", "end"):
            yield f"event: {kind}\ndata: {json.dumps(TASK)}\n\n".encode()
        raise AssertionError("nothing is read after the end")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


@BOTH
def test_the_end_of_a_task_comes_without_a_connection(kind: type) -> None:
    stream = Watched()

    def use(client: Any) -> Any:
        if kind is Client:
            return ((one.kind, stream.is_closed) for one in client.watch("t1"))
        return ((one.kind, stream.is_closed) async for one in client.watch("t1"))

    answer = httpx.Response(200, stream=stream, headers={"Content-Type": "text/event-stream"})
    assert everything(lambda _: answer, use, kind) == [("snapshot", False), ("end", True)]


@contextmanager
def meeting(callers: int) -> Iterator[str]:
    """An API that answers once as many calls wait. Yields its address."""
    result = json.dumps({"data": {"taskId": "t1", "status": "COMPLETED", "result": {}}}).encode()
    loop = asyncio.new_event_loop()
    here = asyncio.Barrier(callers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await here.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(result), result))
        await writer.drain()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, backlog=callers))
    serving = Thread(target=loop.run_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        serving.join()
        server.close()
        loop.close()


@BOTH
def test_any_number_of_callers_wait_at_once(kind: type) -> None:
    callers = 120  # httpx opens 100 connections by itself

    async def wait(url: str) -> list[Any]:
        async with AsyncClient(url, "key") as client:
            return await asyncio.gather(*(client.result("t1", timeout=5) for _ in range(callers)))

    with meeting(callers) as url:
        if kind is AsyncClient:
            found = asyncio.run(wait(url))
        else:
            with Client(url, "key") as client, ThreadPoolExecutor(callers) as threads:
                found = list(threads.map(lambda _: client.result("t1", timeout=5), range(callers)))
    assert found == [{}] * callers
