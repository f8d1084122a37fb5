"""The waits of the client for a result; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpu_orchestrator_client import (
    NotYet,
    TaskFailed,
    TaskTimedOut,
    TooManyRequests,
    Unavailable,
    Unreachable,
    core,
)
from gpu_orchestrator_client.commands import Lost, Reply
from tests.client.test_core import CUT, TASK, Played, answer


def result_of(status: str, result: Any = None) -> dict[str, Any]:
    return {"taskId": "t1", "status": status, "result": result, "completedAt": None}


def test_a_result_is_waited_for_by_calls_that_wait() -> None:
    waited = answer(result_of("PROCESSING"), took_s=30.0)
    played = Played(waited, waited, answer(result_of("COMPLETED", {"n": 1})))
    assert played.run(core.result("t1", 100, cancel_on_timeout=False)) == {"n": 1}
    assert [one.headers["Prefer"] for one in played.sent] == ["wait=30"] * 3
    assert all(one.timeout_s > 30 for one in played.sent)
    assert not played.paused


def test_a_server_that_does_not_wait_is_asked_once_a_second() -> None:
    played = Played(*[answer(result_of("QUEUED"))] * 3, answer(result_of("COMPLETED", {})))
    played.run(core.result("t1", 100, cancel_on_timeout=False))
    assert played.paused == [1, 1, 1]


def test_a_result_is_waited_for_while_the_api_is_away() -> None:
    away = answer(None, 503, retry_after="20")
    played = Played(*[away] * 20, answer(result_of("COMPLETED", {"n": 1})))
    assert played.run(core.result("t1", 3600, cancel_on_timeout=False)) == {"n": 1}
    with pytest.raises(Unavailable):
        Played(*[away] * 20).run(core.result("t1", 300, cancel_on_timeout=False))


@pytest.mark.parametrize("away", [answer(None, 503, retry_after="3600"), answer(None, 429), CUT])
def test_a_result_is_waited_for_as_long_as_its_caller_says(away: Reply | Lost) -> None:
    played = Played(*[away] * 1000)
    with pytest.raises((Unavailable, TooManyRequests, Unreachable)):
        played.run(core.result("t1", 300, cancel_on_timeout=False))
    calls_s = sum(one.took_s for one in [away] * (len(played.sent) - 1))  # the last look is beyond the time
    assert sum(played.paused) + calls_s == pytest.approx(300, abs=0.2)


@pytest.mark.parametrize(("timeout_s", "longest_s"), [(5, 20), (0, 12)])
@pytest.mark.parametrize("cancel", [False, True])
def test_a_silent_api_does_not_take_the_caller_s_time(timeout_s: float, longest_s: float, *, cancel: bool) -> None:
    played = Played(*[Lost(TimeoutError("silent"), took_s=1.0)] * 40)
    with pytest.raises(Unreachable):
        played.run(core.result("t1", timeout_s, cancel_on_timeout=cancel))
    assert sum(played.paused) + len(played.sent) < longest_s
    assert all(one.timeout_s <= timeout_s + core.GRACE_S for one in played.sent)
    assert (played.sent[-1].path == "/tasks/t1/cancel") is cancel


def test_the_last_look_does_not_wait() -> None:
    stopped = answer(result_of("QUEUED"), took_s=3600.0)
    played = Played(stopped, answer(result_of("COMPLETED", {"n": 1})))
    assert played.run(core.result("t1", 5, cancel_on_timeout=True)) == {"n": 1}
    assert "Prefer" not in played.sent[1].headers


def test_the_time_of_a_call_includes_its_repetitions() -> None:
    away = answer(None, 503, retry_after="4")
    played = Played(away, away, *[answer(result_of("QUEUED"))] * 3)
    with pytest.raises(NotYet):
        played.run(core.result("t1", 9, cancel_on_timeout=False))


@pytest.mark.parametrize(("status", "kind"), [("FAILED", TaskFailed), ("TIMEOUT", TaskTimedOut)])
def test_a_task_that_ends_otherwise_raises_with_the_task(status: str, kind: type[Exception]) -> None:
    ended = {**TASK, "status": status, "errorMessage": "boom", "endReason": "CANCELLED"}
    with pytest.raises(kind, match="t1 ended CANCELLED: boom") as raised:
        Played(answer(result_of(status)), answer(ended)).run(core.result("t1", 9, cancel_on_timeout=True))
    assert raised.value.task.error_message == "boom"  # type: ignore[attr-defined]


def never(*more: Reply) -> Callable[[bool], Played]:
    def play(cancel: bool) -> Played:
        played = Played(answer(result_of("QUEUED"), took_s=9), answer(result_of("QUEUED")), *more)
        played.run(core.result("t1", 5, cancel_on_timeout=cancel))
        return played

    return play


def test_after_its_time_the_task_goes_on_or_is_cancelled() -> None:
    with pytest.raises(NotYet):
        never()(False)
    with pytest.raises(NotYet):
        never(answer("任务已取消"))(True)


def test_a_task_that_ends_while_it_is_to_be_cancelled_gives_its_result() -> None:
    played = Played(
        answer(result_of("PROCESSING"), took_s=9),
        answer(result_of("PROCESSING")),
        answer(None, 400),
        answer(result_of("COMPLETED", {"n": 1})),
    )
    assert played.run(core.result("t1", 5, cancel_on_timeout=True)) == {"n": 1}
    assert played.sent[2].path == "/tasks/t1/cancel"
