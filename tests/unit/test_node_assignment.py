"""The body of a PUT, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.node.assignment import BODY_LIMIT, Assignment, parse_assignment
from workers.node.errors import BadAssignment

CONTEXT: dict[str, Any] = {
    "taskId": "task_1",
    "attempt": 2,
    "taskType": 3,
    "app": "face_swap_app",
    "userId": "user_001",
    "env": "prod",
    "timeout": 1500,
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parse(body: Any, headers: dict[str, str] | None = None, id: str = "task_1-2") -> Assignment:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_assignment(id, raw, headers or {})


def put(**context: Any) -> dict[str, Any]:
    return {"input": {"image": "图.jpg"}, "context": CONTEXT | context, "webhook": "http://o/api/v2/tasks/task_1"}


def test_everything_is_taken_over() -> None:
    assignment = parse(put(), {"x-attempt-token": "abc.def", "traceparent": TRACE})
    assert assignment.timeout == 1.5
    assert json.loads(assignment.input_json) == {"image": "图.jpg"}
    assert assignment.token == "abc.def"
    assert assignment.webhook == "http://o/api/v2/tasks/task_1"
    assert assignment.environment() == {
        "TASK_ID": "task_1",
        "TASK_ATTEMPT": "2",
        "TASK_TYPE": "3",
        "TASK_APP": "face_swap_app",
        "TASK_USER": "user_001",
        "TASK_ENV": "prod",
        "TRACEPARENT": TRACE,
    }


def test_what_may_be_created_may_arrive() -> None:
    """The bounds of `POST /tasks`: its longest payload, all of it escapes, and its least type."""
    longest = parse({"input": {"payload": "\x01" * 256 * 1024}, "context": CONTEXT | {"taskType": -(2**63)}})
    assert longest.task_type == -(2**63)
    assert len(longest.input_json) <= BODY_LIMIT


def test_what_is_optional() -> None:
    assignment = parse({"input": {}, "context": {"taskId": "t", "attempt": 0, "taskType": 0}})
    assert (assignment.timeout, assignment.webhook, assignment.token, assignment.app) == (None, None, None, "")


def test_a_malformed_trace_is_ignored() -> None:
    assert parse(put(), {"traceparent": "00-zz"}).traceparent is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b'{"input": {"x": NaN}, "context": {}}', "body"),
        (b'{"input": {"x": 1e999}, "context": {"taskId": "t", "attempt": 1, "taskType": 2}}', "input"),
        (b'{"input": {"x": ' + b"9" * 5000 + b'}, "context": {"taskId": "t", "attempt": 1, "taskType": 2}}', "input"),
        (b'{"input": {"x": "\\u0000"}, "context": {"taskId": "t", "attempt": 1, "taskType": 2}}', "input"),
        ([], "body"),
        ({"context": CONTEXT}, "input"),
        ({"input": "text", "context": CONTEXT}, "input"),
        ({"input": {"x": "\ud800"}, "context": CONTEXT}, "body"),
        ({"input": {}}, "context"),
        ({"input": {}, "context": []}, "context"),
        (put(taskId=None), "taskId"),
        (put(taskId=""), "taskId"),
        (put(taskId="a\0b"), "taskId"),
        (put(taskId="\ud800"), "body"),
        (put(taskId="x" * 3000), "taskId"),
        (put(attempt=True), "attempt"),
        (put(attempt="1"), "attempt"),
        (put(attempt=-1), "attempt"),
        (put(taskType=2.0), "taskType"),
        (put(taskType=2**63), "taskType"),
        (put(timeout=0), "timeout"),
        (put(timeout="300"), "timeout"),
        (put(app=5), "app"),
        (put(env="a\nb"), "env"),
        (put() | {"webhook": 5}, "webhook"),
    ],
)
def test_malformed_bodies_name_the_field(body: Any, field: str) -> None:
    with pytest.raises(BadAssignment, match=field):
        parse(body)


def test_an_input_of_many_lines_is_handed_on_in_one() -> None:
    """The input stays as it was written: a line is a job for a handler."""
    parsed = parse(b'{"input": {\n "x": [1e2,\n 0.10]}, "context": {"taskId": "t", "attempt": 1, "taskType": 2}}')
    assert parsed.input_json == '{"x":[1e2,0.10]}'


def test_malformed_id_and_token() -> None:
    with pytest.raises(BadAssignment, match="id"):
        parse(put(), id="a b")
    with pytest.raises(BadAssignment, match="X-Attempt-Token"):
        parse(put(), {"x-attempt-token": "a\tb"})
