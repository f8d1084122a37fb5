"""HTTP/1.1 as it comes in: raw UTF-8 in a request line, and refusals in the envelope (specification, cURL示例)."""

from __future__ import annotations

import asyncio
import re
from enum import Enum, auto

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.envelope import failure
from api.errors import MESSAGES

HEAD_S = 30.0
"""From a connection, or the first byte of a further request on it, to the end of the request's head."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class _Part(Enum):
    """What the next byte belongs to."""

    BETWEEN = auto()
    LINE = auto()
    HEAD = auto()
    BODY = auto()


class RawLineProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which takes ASCII only, for request lines as they are typed.

    curl sends `?reason=手动标记` in UTF-8: so the bytes from 0x80 on in a request line are percent-encoded before the
    parser sees them. Every other byte reaches it as it came. Behind a chunked body a request that was sent without
    waiting is left alone, because nothing here knows where it begins.
    """

    _part = _Part.BETWEEN
    _expected: int | None = None  # bytes of the body still to come; None: it is chunked

    def data_received(self, data: bytes) -> None:
        start = 0
        while start < len(data) and self._listens():
            end = self._end(data, start)
            self._feed(data[start:end])
            start = end

    def _listens(self) -> bool:
        """Whether what comes in is looked at any more."""
        return not self.transport.is_closing()

    def _end(self, data: bytes, start: int) -> int:
        """Where a piece ends that lies in one part: no request begins in the midst of it."""
        if self._part is _Part.BODY:
            return min(start + self._expected, len(data)) if self._expected else len(data)
        if self._part is _Part.HEAD and start > 1:  # else the line's end, or half of it, was in the read before
            blank = data.find(b"\r\n\r\n", start - 2)
            return len(data) if blank < 0 else blank + 4
        return data.find(b"\n", start) + 1 or len(data)

    def _feed(self, piece: bytes) -> None:
        in_line = self._part in (_Part.BETWEEN, _Part.LINE)
        if in_line:
            piece = _NOT_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), piece)
        super().data_received(piece)
        if self._part is _Part.LINE and (piece.endswith(b"\n") or not in_line):
            self._part = _Part.HEAD

    def on_message_begin(self) -> None:
        self._part = _Part.LINE
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._part = _Part.BODY
        headers = dict(self.headers)
        self._expected = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._expected is not None:
            self._expected -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._part = _Part.BETWEEN
        super().on_message_complete()


class PromptProtocol(RawLineProtocol):
    """Closes a connection on which the head of a request is not whole after HEAD_S; bodies have `api.body.BODY_S`."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(HEAD_S, self._is_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()

    def _is_late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:  # another request is being answered, and this one is not read meanwhile
            self._await_head()


class EnvelopeProtocol(PromptProtocol):
    """What is no HTTP is answered 400 in the envelope, after whatever was asked before on the same connection."""

    _broken = False

    def _listens(self) -> bool:
        return super()._listens() and not self._broken

    def send_400_response(self, msg: str) -> None:
        """`msg` is the parser's, for the log; the caller reads ours."""
        asked = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if asked is not None and not asked.more_body:  # it came whole: its own answer is the last one here
            asked.keep_alive = False
            self._broken = True
            return
        if asked is None or not asked.response_started:
            self.transport.write(self._refusal())
        self.transport.close()

    def _refusal(self) -> bytes:
        answer = failure(400, f"{MESSAGES[400]}: 不是合法的HTTP请求", {"Connection": "close"})
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(answer.body)
