"""The course of a task from the messages of its stream, and how it is shown."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from workers.command import exits
from workers.command.course import Course, Update, end_of, state_of
from workers.command.durations import about, age, span
from workers.command.live import moving
from workers.command.output import one_line, printable, write_json

SNAPSHOT = {"taskId": "task_1", "taskType": 2, "app": "换脸应用", "userId": "u", "status": "QUEUED", "createdAt": 1000}
ENDED = {**SNAPSHOT, "status": "FAILED", "endReason": "FAILED", "gpuId": "gpu_001", "completedAt": 43_000}


def course(*messages: tuple[str, dict[str, Any]]) -> Course:
    made = Course()
    for kind, data in messages:
        made.see(Update(kind, data))
    return made


def started(attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return "status", {"gpuId": "gpu_001", "data": {"status": "PROCESSING", "attempt": attempt}}


WAITING = ("place", {"queuePosition": 4, "estimatedWaitTime": 95})
HALF = ("progress", {"progress": 65, "estimatedRemainingTime": 40})


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "waits"),
        ([WAITING], "waits, place 4, starts in about 1 min"),
        ([("place", {"queuePosition": 1, "estimatedWaitTime": None})], "waits, place 1, start unknown"),
        (
            [("place", {"queuePosition": 1, "estimatedWaitTime": None, "reason": "1 nodes: 1 full"})],
            "waits, place 1, start unknown, 1 nodes: 1 full",
        ),
        ([WAITING, started()], "runs on gpu_001, 0 %"),
        ([started(2), HALF], "runs on gpu_001, attempt 2, 65 %, about 40 s left"),
        ([started(), HALF, ("status", {"data": {"status": "QUEUED", "attempt": 1}})], "waits"),
        ([started(), ("end", ENDED)], "FAILED after 42 s on gpu_001"),
        ([("place", {}), ("news of a later version", {"x": 1})], "waits"),
    ],
)
def test_states(messages: list[tuple[str, dict[str, Any]]], says: str) -> None:
    assert state_of(course(("snapshot", SNAPSHOT), *messages)) == says


def test_an_end_is_one_line_whatever_a_node_says() -> None:
    assert end_of(ENDED | {"errorMessage": "\x1b[2J第一行\nsecond\r"}) == (
        "FAILED after 42 s on gpu_001: \\x1b[2J第一行 second"
    )
    assert end_of({"status": "TIMEOUT", "endReason": "EXPIRED"}) == "EXPIRED"


def shown(renderable: Any, width: int = 80) -> str:
    console = Console(
        file=io.StringIO(), width=width, highlight=False, markup=False, force_terminal=True, no_color=True
    )
    console.print(renderable)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [WAITING],
        [started(12), ("progress", {"progress": 100, "estimatedRemainingTime": 86_399})],
        [("status", {"gpuId": "g" * 200, "data": {"status": "PROCESSING"}}), HALF],
        [("end", ENDED)],
    ],
)
def test_the_moving_part_has_a_line_and_one_for_the_reason(messages: list[tuple[str, dict[str, Any]]]) -> None:
    made = course(("snapshot", SNAPSHOT), *messages)
    made.reason = "12 nodes: 7 other type, 3 full, 2 draining, and many other things that are told at length"
    lines = shown(moving(made, "⠋", now=5000)).splitlines()
    assert len(lines) == (2 if made.status == "QUEUED" else 1)


def test_a_bar_comes_with_the_run() -> None:
    line = shown(moving(course(("snapshot", SNAPSHOT), started(), HALF), "⠋"))
    assert "gpu_001" in line
    assert "━" in line
    assert "65 %, about 40 s left" in line


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (-3, "0 s", "0 s"),
        (0.4, "0 s", "0 s"),
        (59.4, "59 s", "59 s"),
        (59.6, "1 min", "1 min"),
        (200, "3 min 20 s", "3 min"),
        (7500, "2 h 5 min", "2 h"),
        (86_400, "1 d", "1 d"),
        (273_600, "3 d 4 h", "3 d"),
    ],
)
def test_spans(seconds: float, long: str, short: str) -> None:
    assert (span(seconds), about(seconds)) == (long, short)


def test_ages() -> None:
    assert age(None) == "-"
    assert age(0) == "-"
    assert age(1000, now=61_000) == "1 min"
    assert age(61_000, now=1000) == "0 s"  # of a faster clock


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("COMPLETED", "COMPLETED", 0),
        ("FAILED", "FAILED", 1),
        ("FAILED", "REJECTED", 1),
        ("FAILED", "POISON", 1),
        ("TIMEOUT", "TIMEOUT", 3),
        ("TIMEOUT", "EXPIRED", 3),
        ("TIMEOUT", "DEADLINE", 3),
        ("FAILED", "CANCELLED", 4),
    ],
)
def test_the_exit_status_is_the_tasks(status: str, reason: str, expected: int) -> None:
    assert exits.of_task({"status": status, "endReason": reason}) == expected


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable("a\x1b]0;x\x07\u202e\x9b\n中") == "a\\x1b]0;x\\x07\\u202e\\x9b\n中"
    assert one_line(" a\n\tb ") == "a b"


def test_json_is_json_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    value = {"a": "\x1b\x9b\x7f\u202e\u2028中", "b": [1, None]}
    write_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert text == '{"a": "\\u001b\\u009b\\u007f\\u202e\\u2028中", "b": [1, null]}\n'
