"""Server-sent events, and what to do when a stream breaks: no input or output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gpu_orchestrator_client.calls import (
    LEAST_TRIES,
    LONGEST_PAUSE_S,
    PAUSE_S,
    REPEAT_FOR_S,
    REPEATED,
    error_of,
    pause_after,
)
from gpu_orchestrator_client.commands import Lost, Reply, Send
from gpu_orchestrator_client.errors import BadAnswer

T = TypeVar("T")

QUIET_S = 45.0
"""Seconds without a line after which a stream counts as broken; the API sends a comment every 15."""
MEDIA_TYPE = "text/event-stream"
_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""The end of a line. A carriage return that comes last may be half of one: `_half`."""


@dataclass
class Messages:
    """Puts bytes together to messages (WHATWG HTML, 9.2.6). An id counts once its message is complete."""

    last_id: str | None = None
    _rest: bytearray = field(default_factory=bytearray)
    _half: bytes = b""
    _id: str | None = None
    _kind: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and data of the messages that become complete. Raises BadAnswer."""
        for line in self._lines(chunk):
            if line:
                self._note(line.decode(errors="replace"))
            elif (message := self._complete()) is not None:
                yield message

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that become complete. What is kept of a long one is not looked through again."""
        *lines, rest = _END.split(self._half + chunk)
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._half = rest[-1:] if rest.endswith(b"\r") else b""
        self._rest += rest.removesuffix(b"\r")
        return lines

    def _note(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value

    def _complete(self) -> tuple[str, dict[str, Any]] | None:
        kind, data = self._kind, "\n".join(self._data)
        self.last_id = self.last_id if self._id is None else self._id
        self._id, self._kind, self._data = None, "", []
        if not data:
            return None
        try:
            return kind, dict(json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise BadAnswer(f"not a message of the API: {error}") from error


@dataclass
class Stream(Generic[T]):
    """One stream over as many connections as it takes; `ends_with` is the kind of its last message, if it has one.

    Until its first bytes it is repeated as long as a call; after that without end. One that `ends_with` a
    message has one: a connection that ends before the first is no answer.
    """

    path: str
    parse: Callable[[str, dict[str, Any]], T | None]
    params: dict[str, str] = field(default_factory=dict)
    ends_with: str | None = None
    ended: bool = False
    _messages: Messages = field(default_factory=Messages)
    _began: bool = False
    _is_empty: bool = True
    _pause_s: float = PAUSE_S
    _waited_s: float = 0.0
    _tries: int = 0

    def request(self) -> Send:
        """The call that opens it, or goes on with it."""
        last_id = self._messages.last_id
        self._messages = Messages(last_id)
        headers = {"Accept": MEDIA_TYPE, **({"Last-Event-ID": last_id} if last_id else {})}
        return Send("GET", self.path, self.params, headers=headers, timeout_s=QUIET_S)

    def opened(self, reply: Reply) -> None:
        """Note where the stream begins: after that it goes on if it breaks before its first id. Raises ApiError,
        BadAnswer."""
        check_answer(reply)
        self._messages.last_id = self._messages.last_id or reply.headers.get("x-next-cursor")

    def feed(self, chunk: bytes) -> Iterator[T]:
        """The messages that bytes complete. Raises BadAnswer."""
        self._began = True
        for kind, data in self._messages.feed(chunk):
            self._pause_s, self._is_empty = PAUSE_S, False
            self.ended = self.ended or kind == self.ends_with
            if (one := self.parse(kind, data)) is not None:
                yield one

    def pause_s(self, heard: Reply | Lost | None) -> float:
        """Seconds until the next connection, after one that was refused, broke, or ended. Raises ApiError, Unreachable,
        BadAnswer."""
        if isinstance(heard, Reply):
            check_answer(heard)
        pause = pause_after(heard, self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if heard is None and self.ends_with is not None and self._is_empty:
            self._count(Lost(EOFError("the stream ended before its first message")), pause)
        elif heard is not None and not self._began:
            self._count(heard, pause)
        return min(pause, REPEAT_FOR_S)

    def _count(self, heard: Reply | Lost, pause: float) -> None:
        self._tries += 1
        self._waited_s += pause + heard.took_s
        is_early = isinstance(heard, Lost) and self._tries < LEAST_TRIES
        if self._waited_s > REPEAT_FOR_S and not is_early:
            raise error_of(heard)


def check_answer(reply: Reply) -> None:
    """Raise ApiError or BadAnswer where another try is no use."""
    if reply.status == 200 and not reply.headers.get("content-type", "").startswith(MEDIA_TYPE):
        raise BadAnswer("not an answer of the API: no stream of events")
    if reply.status != 200 and reply.status not in REPEATED:
        raise error_of(reply)
