"""Streams: their messages, and how they resume."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from gpu_orchestrator_client import (
    Attempt,
    BadAnswer,
    Change,
    Client,
    End,
    Place,
    Snapshot,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from gpu_orchestrator_client.calls import REPEAT_FOR_S
from gpu_orchestrator_client.commands import Lost, Reply
from gpu_orchestrator_client.streams import MEDIA_TYPE, Messages, Stream
from gpu_orchestrator_client.updates import Update, event_of, update_of
from tests.client.test_core import TASK

EVENT = {"id": "e1", "type": "task.started", "time": 1703123456789, "data": {"status": "PROCESSING"}}
CUT = Lost(OSError("reset"), took_s=0.1)


def message(kind: str, data: Any, event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def of_task() -> Stream[Update]:
    return Stream("/tasks/t1/stream", update_of, ends_with="end")


def test_its_messages_have_types() -> None:
    stream = of_task()
    found = list(
        stream.feed(
            message("snapshot", TASK, "e0")
            + message("status", EVENT, "e1")
            + b": still here\n\n"
            + message("attempt", {"attempt": 1, "gpuId": "g"})
            + message("place", {"queuePosition": 3, "estimatedWaitTime": None})
            + message("of a later version", {"a": 1})
            + message("end", TASK | {"status": "COMPLETED"})
        )
    )
    assert [type(one) for one in found] == [Snapshot, Change, Attempt, Place, End]
    assert isinstance(found[1], Change)
    assert (found[1].status, found[1].event.id) == ("PROCESSING", "e1")
    assert stream.ended


def test_it_resumes_after_the_last_whole_message() -> None:
    stream = of_task()
    assert "Last-Event-ID" not in stream.request().headers
    assert len(list(stream.feed(message("status", EVENT, "e1") + b"id: e2\nevent: status\ndata: {"))) == 1
    assert stream.request().headers["Last-Event-ID"] == "e1"
    assert len(list(stream.feed(message("status", EVENT, "e2")))) == 1


def test_before_its_first_id_it_resumes_where_it_began() -> None:
    stream = Stream("/stream", event_of, {"after": "now"})
    for cursor in ("e3", "e7"):
        stream.opened(Reply(200, {"content-type": MEDIA_TYPE, "x-next-cursor": cursor}, b""))
        assert stream.request().headers["Last-Event-ID"] == "e3"


def test_a_snapshot_where_events_were_missed_is_shown() -> None:
    stream = of_task()
    list(stream.feed(message("snapshot", TASK, "e1")))
    stream.request()
    assert [one.kind for one in stream.feed(message("snapshot", TASK, "e9"))] == ["snapshot"]
    assert stream.request().headers["Last-Event-ID"] == "e9"


def test_a_reset_is_an_event() -> None:
    stream = Stream("/stream", event_of, {"after": "e1"})
    reset = {"id": "e5", "type": "reset", "time": 1703123456789, "data": {}}
    assert [one.type for one in stream.feed(message("reset", reset, "e5"))] == ["reset"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_bytes_may_come_in_any_pieces_and_lines_end_in_any_way(size: int) -> None:
    place = json.dumps({"queuePosition": 3, "odd": "a\u2028b\x85c名"}, ensure_ascii=False)
    second = 'event: place\ndata: {\ndata:"queuePosition": 4}\n\n'
    whole = f"event:place\r\ndata: {place}\r\rretry: 10\n\ndata\n\n{second}".encode()
    stream = of_task()
    found = [one for at in range(0, len(whole), size) for one in stream.feed(whole[at : at + size])]
    assert [one.queue_position for one in found if isinstance(one, Place)] == [3, 4]


@pytest.mark.parametrize("data", ["[]", "{", '{"queuePosition": "near"}'])
def test_nonsense_is_a_bad_answer(data: str) -> None:
    with pytest.raises(BadAnswer):
        list(of_task().feed(f"event: place\ndata: {data}\n\n".encode()))


def test_pauses_grow_until_a_message_comes() -> None:
    stream = of_task()
    stream.request()
    first, *more = [stream.pause_s(None) for _ in range(6)]
    assert max(more) > 2 * first
    list(stream.feed(message("snapshot", TASK, "e1")))
    assert stream.pause_s(None) < max(more)


def test_a_refusal_is_obeyed_or_raised() -> None:
    stream = of_task()
    assert stream.pause_s(Reply(429, {"retry-after": "9"}, b"")) == 9
    with pytest.raises(Unauthorized):
        stream.pause_s(Reply(401, {}, b'{"message": "no key"}'))


@pytest.mark.parametrize("asked", ["86400", "9" * 400])
def test_a_pause_of_hours_is_raised_before_the_first_message_and_cut_after_it(asked: str) -> None:
    away = Reply(503, {"retry-after": asked}, b"{}")
    stream = of_task()
    with pytest.raises(Unavailable):
        stream.pause_s(away)
    list(stream.feed(message("snapshot", TASK, "e1")))
    assert stream.pause_s(away) == REPEAT_FOR_S


def test_before_its_first_message_it_gives_up_and_later_never() -> None:
    def cut(stream: Stream[Update]) -> float:
        return sum(stream.pause_s(CUT) for _ in range(100))

    with pytest.raises(Unreachable):
        cut(of_task())
    with pytest.raises(Unavailable):
        of_task().pause_s(Reply(503, {"retry-after": "3600"}, b""))
    stream = of_task()
    list(stream.feed(message("snapshot", TASK, "e1")))
    assert cut(stream) > 100


@pytest.mark.parametrize("stream", [Stream("/stream", event_of), of_task()])
def test_a_quiet_stream_has_begun(stream: Stream[Any]) -> None:
    refused = Lost(OSError("refused"))
    assert stream.pause_s(refused) > 0
    list(stream.feed(b": ping\n\n"))
    assert stream.pause_s(Lost(OSError("reset"), took_s=7200)) > 0
    for _ in range(50):
        assert stream.pause_s(refused) > 0
        assert stream.pause_s(Reply(503, {}, b"{}")) > 0


@pytest.mark.parametrize("chunk", [b"", b": ping\n\n"])
def test_a_stream_that_ends_before_its_first_message_is_no_answer(chunk: bytes) -> None:
    def pauses(stream: Stream[Any]) -> list[float]:
        found = []
        for _ in range(100):
            list(stream.feed(chunk) if chunk else ())
            found.append(stream.pause_s(None))
        return found

    with pytest.raises(Unreachable, match="ended before its first message"):
        pauses(of_task())
    assert min(pauses(Stream("/stream", event_of))[10:]) > 2  # it may be quiet
    begun = of_task()
    list(begun.feed(message("snapshot", TASK, "e1")))
    assert len(pauses(begun)) == 100


def test_a_page_of_somebody_else_is_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client("http://127.0.0.1:1", "key") as client:
        page = httpx.MockTransport(lambda request: httpx.Response(200, html="<p>log in"))
        monkeypatch.setattr(client, "_http", httpx.Client(base_url="http://127.0.0.1:1", transport=page))
        with pytest.raises(BadAnswer):
            list(client.watch("t1"))


def test_the_pieces_of_a_long_line_are_read_once() -> None:
    """To look through all of it again with each piece would take hours."""
    messages, began = Messages(), time.thread_time()
    for piece in (b'data: {"a": "', *[b"x" * 1000] * 30_000, b'"}\r', b"\n\r\n"):
        found = list(messages.feed(piece))
    assert [len(data["a"]) for _, data in found] == [30_000_000]
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", range(1, 12))
def test_lines_end_wherever_the_pieces_do(end: str, size: int) -> None:
    whole = f'id: 7{end}event: a{end}data: {{"b":{end}data: 1}}{end}{end}: c{end}data: {{}}{end}{end}:{end}'.encode()
    messages, found = Messages(), list[Any]()
    for at in range(0, len(whole), size):
        found += messages.feed(whole[at : at + size])
    assert (found, messages.last_id) == ([("a", {"b": 1}), ("", {})], "7")
