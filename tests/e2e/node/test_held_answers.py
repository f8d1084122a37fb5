"""`Prefer: wait` (RFC 7240): the agent holds its answer to a PUT, and gives the end in it instead of a report."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from starlette.requests import Request

from tests.e2e.node.agent import BIG, DOUBLE, GATED, RAISE, Agent, gate, until_exists
from workers.node.server import _wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0),
        (["wait=1"], 1),
        (["Wait = 2"], 2),
        (["respond-async, wait=3"], 3),
        (["respond-async", "wait=3; foo=1"], 3),
        (["wait=3600"], 4),
        (["wait=0"], 0),
        (["wait"], 0),
        (["wait=x"], 0),
        (["wait=-1"], 0),
        (["await=1"], 0),
        (["wait=99999999999"], 0),
    ],
)
def test_how_long_a_caller_prefers_to_wait(headers: list[str], seconds: float) -> None:
    raw = [(b"prefer", value.encode()) for value in headers]
    assert _wait(Request({"type": "http", "headers": raw})) == seconds


async def test_the_answer_holds_the_result_and_no_report_follows(shared: Agent, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    input = {"log": str(log), "x": 4}
    answer = await shared.put("held", DOUBLE, input, prefer="wait=4")
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (200, "succeeded", {"x": 8})
    again = await shared.put("held", DOUBLE, input)
    assert (again.status_code, again.json()) == (200, answer.json())
    await shared.put("held_after", DOUBLE, input)
    await shared.result("held_after")
    assert shared.orchestrator.statuses("held") == ["PROCESSING"]
    assert log.read_text() == "run\n" * 2


async def test_the_answer_holds_the_failure(shared: Agent, tmp_path: Path) -> None:
    answer = await shared.put("held_failure", RAISE, {}, prefer="wait=4")
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert "no face found" in answer.json()["error"]
    await shared.put("failure_after", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.result("failure_after")
    assert shared.orchestrator.statuses("held_failure") == ["PROCESSING"]


async def test_longer_work_is_answered_202_and_reported(shared: Agent, tmp_path: Path) -> None:
    input, here, go = gate(tmp_path, "held_long")
    began = time.monotonic()
    answer = await shared.put("held_long", GATED, input, prefer="wait=1")
    assert time.monotonic() - began >= 1
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    await until_exists(here)
    go.touch()
    assert await shared.result("held_long") == {}


async def test_a_caller_that_is_gone_is_sent_a_report(shared: Agent, tmp_path: Path) -> None:
    input, here, go = gate(tmp_path, "held_gone")
    call = asyncio.create_task(shared.put("held_gone", GATED, input, prefer="wait=4"))
    await until_exists(here)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.touch()
    assert await shared.result("held_gone") == {}


async def test_an_output_that_is_too_large_is_reported(shared: Agent) -> None:
    answer = await shared.put("held_big", BIG, {"size": 50_000}, prefer="wait=4")
    assert answer.status_code == 202
    assert await shared.result("held_big") == {"x": "x" * 50_000}


async def test_two_callers_get_the_same_answer(shared: Agent, tmp_path: Path) -> None:
    input, here, go = gate(tmp_path, "held_twice")
    calls = [asyncio.create_task(shared.put("held_twice", GATED, input, prefer="wait=4")) for _ in range(2)]
    await until_exists(here)
    go.touch()
    answers = await asyncio.gather(*calls)
    assert [(answer.status_code, answer.json()["output"]) for answer in answers] == [(200, {})] * 2
