"""What counts as a result: of a command's output, and as an output at all."""

from __future__ import annotations

import json

import pytest

from workers.node.command_run import CommandOutput
from workers.node.errors import BadOutput
from workers.node.lines import LineSplitter
from workers.node.outcome import ERROR_LIMIT, Outcome, failed, failed_exit
from workers.node.output import OUTPUT_LIMIT, output_text


def run(stdout: bytes, status: int = 0, stderr: bytes = b"") -> tuple[Outcome, list[int]]:
    progress: list[int] = []
    output = CommandOutput("task_1-1", progress.append)
    for text, take in ((stdout, output.stdout_line), (stderr, output.stderr_line)):
        lines = LineSplitter(take, OUTPUT_LIMIT + 64)
        lines.feed(text)
        lines.end()
    return output.outcome(status), progress


@pytest.mark.parametrize(
    ("stdout", "result"),
    [
        (b'{"a": 1}\n', {"a": 1}),
        (b'{"a": 1}', {"a": 1}),
        (b'loading\n{"a": 1}\n{"a": 2}\ndone.\n', {"a": 2}),
        (b'{"a": 1}\n[INFO] 100\n100\n', {"a": 1}),
        (b"\xe5\x9b\xbe\xff\n  [1, 2]  \r\n", [1, 2]),
        (b"working\n42\n", 42),
        ('{"name": "图"}'.encode(), {"name": "图"}),
    ],
)
def test_the_last_json_line_is_the_result(stdout: bytes, result: object) -> None:
    outcome, _ = run(stdout)
    assert outcome.status == "succeeded"
    assert json.loads(outcome.output or "") == result


@pytest.mark.parametrize(
    ("stdout", "complaint"),
    [
        (b"", "no line of the standard output is JSON"),
        (b"nothing here\n", "no line of the standard output is JSON"),
        (b'{"ok": 1}\n{"a": NaN}\n', "not strict JSON"),
        (b'{"a": 1e999}\n', "not strict JSON"),
        (b'{"a": "\\ud800"}\n', "not JSON"),
        (b'{"a": "' + b"x" * OUTPUT_LIMIT + b'"}\n', "larger than"),
        (b'{"a": "' + b'\\"' * 400_000 + b'"}\n', "larger than"),
    ],
)
def test_results_that_cannot_travel_fail(stdout: bytes, complaint: str) -> None:
    outcome, _ = run(stdout)
    assert outcome.status == "failed"
    assert complaint in (outcome.error or "")


def test_progress_lines() -> None:
    _, progress = run(b"{}", stderr=b"progress 5\nprogress: 6\n progress 65 %\nmy progress 7\nprogress 400\n")
    assert progress == [5, 65, 100]


def test_the_exit_status_decides() -> None:
    outcome, _ = run(b'{"a": 1}\n', status=3, stderr=b"reading\nprogress 10\nno such file: x.jpg\n")
    assert outcome == failed("reading\nno such file: x.jpg")
    assert run(b'{"a": 1}\n', status=3)[0] == failed("exit status 3")
    assert run(b"", status=-11)[0] == failed("killed by signal SEGV")


def test_error_messages_are_bounded_and_printable() -> None:
    outcome, _ = run(b"", status=1, stderr=b"".join(b"line %d " % n + b"x" * 5000 + b"\n" for n in range(50)))
    assert len(outcome.error or "") == ERROR_LIMIT
    assert failed("a\0b\ud800c\x1b[0m").error == "a b c [0m"
    assert failed_exit(-64, "").error == "killed by signal RTMAX"


@pytest.mark.parametrize("value", [float("nan"), {"x": object()}, "\ud800", {"x": "y" * OUTPUT_LIMIT}])
def test_bad_outputs(value: object) -> None:
    with pytest.raises(BadOutput):
        output_text(value)


def test_lines_are_bounded() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append, limit=4)
    for part in (b"ab", b"c\n\nde", b"fghijklm", b"n\nxy"):
        splitter.feed(part)
    splitter.end()
    assert lines == [b"abc", b"defgh", b"xy"]
