"""Results: of a command's output, and of outputs in general."""

from __future__ import annotations

import json

import httpx
import pytest

from infra.json import results
from infra.json.results import MAX_REPORT
from infra.json.strict_json import Unfit
from workers.node.child import LINE_LIMIT
from workers.node.command_run import CommandOutput
from workers.node.lines import LineSplitter
from workers.node.outcome import ERROR_LIMIT, Outcome, failed, failed_exit, handed_back, rejected


def run(stdout: bytes, status: int = 0, stderr: bytes = b"") -> tuple[Outcome, list[int]]:
    progress: list[int] = []
    output = CommandOutput("task_1-1", progress.append)
    for text, take in ((stdout, output.stdout_line), (stderr, output.stderr_line)):
        lines = LineSplitter(take, LINE_LIMIT)
        lines.feed(text)
        lines.end()
    return output.outcome(status), progress


@pytest.mark.parametrize(
    ("stdout", "complaint"),
    [
        (b"", "the standard output holds no JSON document"),
        (b"nothing here\n", "the standard output holds no JSON document"),
        (b'{"ok": 1}\n{"a": NaN}\n', "the result holds NaN, which is not JSON"),
        (b'{"ok": 1}\n{\n"a":\n-Infinity}\n', "the result holds -Infinity, which is not JSON"),
        (b"NaN\n", "the result holds NaN, which is not JSON"),
        (b'{"a": 1e999}\n', "the result holds a number that is out of range"),
        (b"9" * 5000, "the result holds a number that is out of range"),
        (b'{"a": "\\ud800"}\n', "the result holds half of a surrogate pair"),
        (b'{"a": "\\\\\\udc00"}\n', "the result holds half of a surrogate pair"),
        (b'{"a": "\\u0000"}\n', "the result holds the character NUL"),
        (b'{"ok": 1}\n{"a": "\xff"}\n', "the result is not UTF-8"),
        (b'{"ok": 1}\n' + b"[" * 101 + b"]" * 101, "the result is nested more than 100 levels deep"),
        (b"[\n" * 50_000 + b"]\n" * 50_000, "the result is nested more than 100 levels deep"),
        (b"[" * 500_000 + b"]" * 500_000, "the result is nested more than 100 levels deep"),
        (b'{"a": "' + b"x" * MAX_REPORT + b'"}\n', "the result is larger than 1024 KiB as a report"),
        (b'{"a":\n"' + b"x" * MAX_REPORT + b'",\n  "b": [\n  {}\n  ]\n}\n', "the result is larger than 1024 KiB"),
        (b"[\n" + b"  123456789,\n" * 200_000 + b"  1\n]\nbye\n", "the result is larger than 1024 KiB as a report"),
        (b'{"a": "' + b'\\"' * 400_000 + b'"}\n', "the result is larger than 1024 KiB as a report"),
    ],
)
def test_results_that_cannot_travel_fail(stdout: bytes, complaint: str) -> None:
    outcome, _ = run(stdout)
    assert outcome.status == "failed"
    assert complaint in (outcome.error or "")


def test_a_result_travels_as_it_is_written() -> None:
    outcome, _ = run(b'[\n  1e2, 0.10000000000000000001,\n  "\\u56fe \xe5\x9b\xbe", 123456789012345678901\n]')
    assert outcome.output == '[1e2,0.10000000000000000001,"\\u56fe 图",123456789012345678901]'


def test_progress_lines() -> None:
    _, progress = run(b"{}", stderr=b"progress 5\nprogress: 6\n progress 65 %\nmy progress 7\nprogress 400\n")
    assert progress == [5, 65, 100]


def test_the_exit_status_decides() -> None:
    outcome, _ = run(b'{"a": 1}\n', status=3, stderr=b"reading\nprogress 10\nno such file: x.jpg\n")
    assert outcome == failed("reading\nno such file: x.jpg")
    assert run(b'{"a": 1}\n', status=3)[0] == failed("exit status 3")
    assert run(b"", status=-11)[0] == failed("killed by signal SEGV")


def test_exit_status_65_rejects_the_input() -> None:
    assert run(b"{}\n", status=65, stderr=b"reading\nno face\n")[0] == rejected("reading\nno face")
    assert run(b"{}\n", status=65)[0] == rejected("exit status 65: the input cannot be used")


def test_error_messages_are_bounded_and_printable() -> None:
    outcome, _ = run(b"", status=1, stderr=b"".join(b"line %d " % n + b"x" * 5000 + b"\n" for n in range(50)))
    assert len(outcome.error or "") == ERROR_LIMIT
    assert failed("a\0b\ud800c\x1b[0m").error == "a b c [0m"
    assert handed_back("a\0b" + "x" * 5000).error == f"handed back: a b{'x' * (ERROR_LIMIT - 16)}"
    assert failed_exit(-64, "").error == "killed by signal RTMAX"


ENVELOPE = len('{"result":""}')


@pytest.mark.parametrize("part", ["x", '\\"', "图", "\\\\n"])
def test_the_largest_result_fills_a_report(part: str) -> None:
    """The agent writes the report itself."""
    escaped = len(json.dumps(part, ensure_ascii=False).encode()) - 2
    count, rest = divmod(MAX_REPORT - ENVELOPE - len('\\"\\"'), escaped)
    largest = f'"{part * count}{"x" * rest}"'
    report = {"result": results.result(largest)}
    assert len(httpx.Request("POST", "http://x", json=report).content) == MAX_REPORT
    with pytest.raises(Unfit, match="larger"):
        results.result(largest[:-1] + 'x"')


def test_lines_are_bounded() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append, limit=4)
    for part in (b"ab", b"c\n\nde", b"fghijklm", b"n\nxy"):
        splitter.feed(part)
    splitter.end()
    assert lines == [b"abc", b"defgh", b"xy"]
