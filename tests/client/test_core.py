"""Repetitions of the client, and how it reads answers; nothing is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import pytest

from gpu_orchestrator_client import (
    BadAnswer,
    BadRequest,
    NewTask,
    NotFound,
    OrchestratorError,
    ServerError,
    TaskOptions,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
    core,
)
from gpu_orchestrator_client.calls import LONGEST_PAUSE_S, PAUSE_S, retry_after_s
from gpu_orchestrator_client.commands import Lost, Pause, Reply, Send, Steps

T = TypeVar("T")
CREATED = {"taskId": "t1", "displayId": 1001, "status": "QUEUED", "estimatedWaitTime": None}
TASK = {
    **CREATED,
    "taskType": 2,
    "userId": "u",
    "app": "a",
    "priority": 1,
    "timeout": 1000,
    "createdAt": 1703123456789,
    "updatedAt": 1703123456789,
}
UNREACHED = Lost(OSError("refused"))
CUT = Lost(OSError("reset"), took_s=0.1)


def answer(data: Any, status: int = 200, took_s: float = 0.01, **headers: str) -> Reply:
    body = json.dumps({"code": status, "message": "消息", "data": data}).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, took_s)


class Played:
    """Plays the server: each call gets the next answer."""

    def __init__(self, *answers: Reply | Lost) -> None:
        self._answers = list(answers)
        self.sent: list[Send] = []
        self.paused: list[float] = []

    def run(self, steps: Steps[T]) -> T:
        heard = None
        while True:
            try:
                command = steps.send(heard)
            except StopIteration as end:
                return end.value
            if isinstance(command, Pause):
                self.paused.append(command.seconds)
                heard = None
            else:
                self.sent.append(command)
                heard = self._answers.pop(0)


def test_a_creation_is_repeated_with_its_key() -> None:
    played = Played(UNREACHED, CUT, answer(None, 503), answer(CREATED))
    assert played.run(core.submit({"taskType": 2}, "key")).task_id == "t1"
    assert len(played.sent) == 4
    assert {one.headers["Idempotency-Key"] for one in played.sent} == {"key"}
    assert len(played.paused) == 3


def test_pauses_grow_and_obey_retry_after() -> None:
    played = Played(*[answer(None, 503)] * 6, answer(None, 429, retry_after="9"), answer(CREATED))
    played.run(core.submit({}, "key"))
    assert played.paused[-1] == 9
    assert played.paused[5] > 3 * played.paused[0]
    assert max(played.paused[:-1]) <= 1.5 * LONGEST_PAUSE_S


def test_it_gives_up_after_its_repeats() -> None:
    with pytest.raises(Unreachable):
        Played(*[CUT] * 1000).run(core.submit({}, "key"))
    with pytest.raises(Unavailable) as raised:
        Played(answer(None, 503, retry_after="3600")).run(core.submit({}, "key"))
    assert raised.value.retry_after_s == 3600


def test_a_call_that_was_stopped_in_the_middle_is_tried_again() -> None:
    stopped = Lost(OSError("reset"), took_s=300.0)
    played = Played(stopped, stopped, answer(CREATED))
    assert played.run(core.submit({}, "key")).task_id == "t1"
    with pytest.raises(Unreachable):
        Played(*[stopped] * 3).run(core.submit({}, "key"))


@pytest.mark.parametrize("many", [False, True])
def test_a_refusal_for_its_wait_is_the_answer(many: bool) -> None:
    played = Played(CUT, answer(None, 429, retry_after="5"))
    task = {"maxWait": 1}
    with pytest.raises(TooManyRequests):
        played.run(core.submit_many([{}, task], "key") if many else core.submit(task, "key"))
    assert len(played.sent) == 2


def test_a_pause_asked_for_as_a_date_is_made_by_the_servers_clock() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    for undated in ({}, {"date": "now"}):
        assert 15 < (retry_after_s(Reply(503, {"retry-after": then, **undated}, b"")) or 0) <= 20
    dated = {"date": "Sun, 06 Nov 1994 08:49:37 GMT", "retry-after": "Sun, 06 Nov 1994 08:49:47 GMT"}
    assert retry_after_s(Reply(503, dated, b"")) == 10
    for odd in ("-1", "²", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", ""):
        assert retry_after_s(answer(None, 503, retry_after=odd)) is None


@pytest.mark.parametrize("asked", ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_no_pause_is_shorter_than_the_backoff(asked: str) -> None:
    played = Played(*[answer(None, 503, retry_after=asked)] * 7, answer(CREATED))
    played.run(core.submit({}, "key"))
    assert played.paused[0] >= PAUSE_S / 2
    assert played.paused[-1] >= LONGEST_PAUSE_S / 2


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequest), (401, Unauthorized), (500, ServerError), (418, ServerError)]
)
def test_what_is_no_use_repeating_raises_by_its_code(status: int, kind: type[OrchestratorError]) -> None:
    played = Played(answer(None, status))
    with pytest.raises(kind, match="消息"):
        played.run(core.submit({}, "key"))
    assert len(played.sent) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": {}}', b'{"data": 1}', b"[" * 100_000])
def test_an_answer_of_somebody_else_says_so(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        Played(Reply(200, {}, body)).run(core.submit({}, "key"))
    with pytest.raises(ServerError, match="no message"):
        Played(Reply(404 + 1, {}, body)).run(core.task("t1"))


def test_unknown_fields_are_none_of_our_business() -> None:
    assert Played(answer({**CREATED, "later": 1})).run(core.submit({}, "key")).display_id == 1001


def test_many_tasks_go_in_batches_each_with_a_key_of_its_own() -> None:
    tasks = [NewTask(task_type=2, payload={"n": n}).body(app="a", user_id="u") for n in range(2001)]
    played = Played(answer([CREATED] * 1000), answer([CREATED] * 1000), answer([CREATED]))
    assert len(played.run(core.submit_many(tasks, "key"))) == 2001
    assert [len(one.json["tasks"]) for one in played.sent] == [1000, 1000, 1]
    assert [one.headers["Idempotency-Key"] for one in played.sent] == ["key-0", "key-1", "key-2"]


def test_a_batch_has_no_more_bytes_than_the_api_takes() -> None:
    tasks = [{"payload": "x" * 200_000} for _ in range(100)]
    played = Played(*[answer([])] * 100)
    played.run(core.submit_many(tasks, "key"))
    assert sum(len(one.json["tasks"]) for one in played.sent) == 100
    assert all(len(json.dumps(one.json)) <= 8 * 1024 * 1024 for one in played.sent)


def test_a_batch_has_no_more_types_and_apps_than_the_api_takes() -> None:
    types = [{"taskType": n} for n in range(33)]
    apps = [{"app": str(n)} for n in range(65)]
    played = Played(*[answer([])] * 9)
    played.run(core.submit_many([*types, *apps], "key"))
    assert [len(one.json["tasks"]) for one in played.sent] == [16, 16, 64, 2]


def test_a_batch_waits_for_room_only_where_nothing_else_makes_it() -> None:
    full = answer(None, 429, retry_after="5")
    played = Played(full)
    assert played.run(core.submit_ahead([{}], "key", 1)) is None
    assert not played.paused
    assert Played(full, answer([CREATED])).run(core.submit_ahead([{}], "key", 0))
    with pytest.raises(TooManyRequests):
        Played(full).run(core.submit_ahead([{"maxWait": 1}], "key", 1))


def test_a_payload_is_text_or_becomes_json() -> None:
    assert NewTask(task_type=1, payload="as it is").body(app="a", user_id="u")["payload"] == "as it is"
    assert NewTask(task_type=1, payload={"名": [1]}).body(app="a", user_id="u")["payload"] == '{"名":[1]}'
    assert NewTask(task_type=1).body(app="a", user_id="u")["payload"] == "{}"
    with pytest.raises(ValueError, match="not JSON compliant"):
        NewTask(task_type=1, payload=[float("nan")])


def test_a_task_says_what_it_was_given_and_nothing_unknown() -> None:
    whole = NewTask(
        task_type=1,
        user_id="me",
        max_wait_s=0,
        timeout_ms=5,
        expires_in_ms=6,
        group_id="g",
        deadline=datetime(2100, 1, 1, tzinfo=UTC),
    ).body(app="a", user_id="u")
    assert whole == {
        "taskType": 1, "payload": "{}", "app": "a", "userId": "me", "groupId": "g",
        "maxWait": 0, "timeout": 5, "expiresIn": 6, "deadline": 4102444800000,
    }  # fmt: skip
    assert NewTask(task_type=1, deadline=4102444800000).body(app="a", user_id="u")["deadline"] == 4102444800000
    with pytest.raises(ValueError, match="timezone"):
        NewTask(task_type=1, deadline=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="Extra"):
        NewTask(task_type=1, prio=1)  # type: ignore[call-arg]
    assert {"task_type", "payload", *TaskOptions.__annotations__} == set(NewTask.model_fields)


def test_bulk_operations_choose_by_ids_or_by_a_filter() -> None:
    played = Played(answer({"operationId": "op_1", "matched": 3}), answer({"matched": 2}))
    begun = played.run(core.bulk("cancel", ["a"], None, dry_run=False, reason="over", key="key"))
    assert (begun.operation_id, begun.matched, begun.state, begun.kind) == ("op_1", 3, "RUNNING", "CANCEL")
    assert played.run(core.bulk("retry", None, {"app": "a"}, dry_run=True, key="key")).matched == 2
    assert {one.headers["Idempotency-Key"] for one in played.sent} == {"key"}
    assert [one.json for one in played.sent] == [
        {"ids": ["a"], "reason": "over"},
        {"filter": {"app": "a"}, "dryRun": True},
    ]
    for ids, which in ((None, None), (["a"], {"app": "a"})):
        with pytest.raises(ValueError, match="ids or by a filter"):
            played.run(core.bulk("cancel", ids, which, dry_run=False, key="key"))


def test_a_moment_that_no_clock_shows_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer):
        Played(answer(TASK | {"createdAt": 10**20})).run(core.task("t1"))


@pytest.mark.parametrize("key", ["", " ", "a\nb", "é"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="one line of ASCII"):
        Played().run(core.submit({}, key))


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_what_is_no_id_is_refused(task_id: str) -> None:
    with pytest.raises(ValueError, match="invalid id"):
        Played().run(core.task(task_id))


def test_an_id_is_no_path() -> None:
    played = Played(answer(None, 404))
    with pytest.raises(NotFound):
        played.run(core.task("../gpus?x=#"))
    assert played.sent[0].path == "/tasks/..%2Fgpus%3Fx%3D%23"
