"""The work that a `PUT /predictions/{id}` carries (NODE_PROTOCOL.md), checked once and for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from infra.json import strict_json
from workers.node.errors import BadAssignment

BODY_LIMIT = 2 * 1024 * 1024  # bytes: a payload of 256 KiB that is no JSON object is six times as long with its escapes
_ID = re.compile(r"[A-Za-z0-9._:~-]{1,200}")
_TOKEN = re.compile(r"[!-~]{1,4096}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_INT = 2**63 - 1


class _Put(msgspec.Struct):
    """The body, as far as anything looks at it."""

    input: msgspec.Raw = msgspec.Raw(b"null")
    context: Any = None
    webhook: Any = None


_PUT = msgspec.json.Decoder(_Put)


@dataclass(frozen=True)
class Assignment:
    """One attempt to run here."""

    id: str
    task_id: str
    attempt: int
    task_type: int
    app: str
    user_id: str
    env: str
    timeout: float | None  # seconds from acceptance
    input_json: str
    webhook: str | None
    token: str | None
    traceparent: str | None

    def environment(self) -> dict[str, str]:
        """The variables through which the work sees its task."""
        context = {
            "TASK_ID": self.task_id,
            "TASK_ATTEMPT": str(self.attempt),
            "TASK_TYPE": str(self.task_type),
            "TASK_APP": self.app,
            "TASK_USER": self.user_id,
            "TASK_ENV": self.env,
        }
        return context | ({"TRACEPARENT": self.traceparent} if self.traceparent else {})


def parse_assignment(id: str, body: bytes, headers: Mapping[str, str]) -> Assignment:
    """Check a PUT; raises BadAssignment, which names the field."""
    if not _ID.fullmatch(id):
        raise BadAssignment("id: up to 200 letters, digits and . _ : ~ - are allowed")
    put = _parsed(body)
    context = _object(put.context, "context")
    timeout = _integer(context, "timeout", least=1, optional=True)
    return Assignment(
        id=id,
        task_id=_text(context, "taskId"),
        attempt=_integer(context, "attempt", least=0) or 0,
        task_type=_integer(context, "taskType", least=-_MAX_INT - 1) or 0,
        app=_text(context, "app", optional=True),
        user_id=_text(context, "userId", optional=True),
        env=_text(context, "env", optional=True),
        timeout=None if timeout is None else timeout / 1000,
        input_json=_input(bytes(put.input)),
        webhook=_text({"webhook": put.webhook}, "webhook", optional=True) or None,
        token=_token(headers.get("x-attempt-token")),
        traceparent=_traceparent(headers.get("traceparent")),
    )


def _parsed(body: bytes) -> _Put:
    try:
        return _PUT.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        raise BadAssignment("body: not a JSON object") from None


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadAssignment(f"{name}: not an object")
    return value


def _input(text: bytes) -> str:
    """The input on one line."""
    try:
        strict_json.check_text(text.decode())
    except ValueError as error:
        raise BadAssignment(f"input: {error}") from None
    if not text.startswith(b"{"):
        raise BadAssignment("input: not an object")
    return strict_json.compact(text.decode())


def _text(where: Mapping[str, object], name: str, *, optional: bool = False) -> str:
    """A string that can be an environment variable; an optional one that is absent is empty."""
    value = where.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or len(value) > 2048 or not (value or optional):
        raise BadAssignment(f"{name}: not a string of up to 2048 characters")
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in value):
        raise BadAssignment(f"{name}: control characters and lone surrogates are not allowed")
    return value


def _integer(where: Mapping[str, object], name: str, *, least: int, optional: bool = False) -> int | None:
    value = where.get(name)
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INT:
        raise BadAssignment(f"{name}: not an integer, or out of range")
    return value


def _token(header: str | None) -> str | None:
    if header is not None and not _TOKEN.fullmatch(header):
        raise BadAssignment("X-Attempt-Token: malformed")
    return header


def _traceparent(header: str | None) -> str | None:
    """A malformed trace context is ignored, as W3C Trace Context asks for."""
    return header if header and _TRACEPARENT.fullmatch(header) else None
