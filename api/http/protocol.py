"""The HTTP/1.1 protocol: raw UTF-8 in a request line, refusals in the envelope (specification, cURL示例), bounds.

Bounded are heads and the framing of chunked bodies (MAX_HEAD, MAX_HEADERS), what arrives ahead of an answer, idle
connections, slow heads, and readers that fall behind (`api.http.connections`). A body has `api.http.body.BODY_S`.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.chunks import Chunks
from api.http.connections import Connections, Outgoing
from api.http.envelope import failure
from api.http.errors import MESSAGES, ApiError, Unavailable

MAX_HEAD = 32 * 1024
"""Bytes of a request line and its headers, and of the framing of a chunked body: sizes, extensions, trailers."""
MAX_HEADERS = 100
MOST_DROPPED = 1024 * 1024
"""Bytes of an unread body after its request was answered. With more of them the connection ends."""
NO_HTTP = "不是合法的HTTP请求"

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_OFFER = re.compile(rb"^u(?=pgrade:)", re.IGNORECASE | re.MULTILINE)
_BREAKS = re.compile(rb"[\r\n]*")
"""Blank lines before a request: they are one piece, whatever their number."""
_HEAD_END = b"\r\n\r\n"


class _Part(Enum):
    """The part of a request that the next byte belongs to."""

    BETWEEN = auto()
    LINE = auto()
    HEAD = auto()
    BODY = auto()


class _Refused(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol as one of the `Connections`, with one request at a time.

    The parser gets pieces that lie in one part of one request. So a pipelined request stays unparsed until the answer
    before it is complete, and one that is too long is never parsed to its end.

    uvicorn takes ASCII only, and curl sends `?reason=手动标记` in UTF-8. So bytes from 0x80 on in a request line are
    percent-encoded before the parser sees them. An offer to upgrade, as Java's client makes it with each request, is
    hidden from the parser, which would take the body for another protocol. Every other byte is passed on unchanged.
    """

    def __init__(self, *, connections: Connections, **given: Any) -> None:
        """`given` is what uvicorn gives each protocol."""
        super().__init__(**given)
        self._all = connections
        self._limits = connections.limits
        self._deadline: asyncio.TimerHandle | None = None
        self.out: Outgoing
        self._part = _Part.BETWEEN
        self._ahead = b""  # input that is not parsed yet
        self._tail = b""  # of the head: its end may lie in two reads
        self._head = 0  # bytes of the head that were parsed
        self._whole = False  # a request has ended in the piece that is parsed
        self._left: int | None = None  # bytes of the body still to come, or None if it is chunked
        self._chunks = Chunks()
        self._dropped = 0  # bytes of the body that came after the answer
        self._refused = False
        self._reason = NO_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.out = Outgoing(transport, self.loop, self._all)
        super().connection_made(self.out)  # type: ignore[arg-type]
        if self._all.admit(self):
            self._within(self._limits.head_s)
        else:
            self.transport.write(self._refusal(Unavailable()))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leaves(self)
        self._stop_waiting()
        self.out.stop()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        """Whether a request's head has been read, and its answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def has_caller(self) -> bool:
        """See `Connection`. The authentication leaves the caller in the request's state."""
        return self.cycle is not None and "caller" in self.cycle.scope["state"]

    def data_received(self, data: bytes) -> None:
        if self._part is _Part.BETWEEN and self.cycle is not None and not (self._answering or self._head):
            self._within(self._limits.head_s)  # the first byte of a further head
        if not self._refused:
            self._ahead += data
            self._parse_ahead()

    def _parse_ahead(self) -> None:
        while self._ahead and self._listens():
            end = self._end(self._ahead)
            if not end and self._part is _Part.HEAD:  # the rest of a line is still to come
                return
            if not end:  # the parser sees no end where we see one
                self._refuse(NO_HTTP)
                return
            piece, self._ahead = self._ahead[:end], self._ahead[end:]
            self._parse(piece)
        if self._ahead and not self.transport.is_closing():
            self.flow.pause_reading()

    def _listens(self) -> bool:
        """Whether input is parsed now."""
        waits = self._part is _Part.BETWEEN and self._answering
        return not (waits or self._refused or self.transport.is_closing())

    def _end(self, data: bytes) -> int:
        """The end of a piece that lies in one part."""
        if self._part is _Part.BODY:
            return self._chunks.take(data) if self._left is None else min(self._left, len(data))
        room = MAX_HEAD - self._head
        return room if len(data) >= room and b"\n" not in data[:room] else self._head_end(data[:room])

    def _head_end(self, data: bytes) -> int:
        """The end of the head, or of its last whole line; of the request line, what there is."""
        if self._part is not _Part.HEAD:
            blank = _BREAKS.match(data).end() if self._part is _Part.BETWEEN else 0  # type: ignore[union-attr]
            return data.find(b"\n", blank) + 1 or len(data)
        end = (self._tail + data).find(_HEAD_END)
        return data.rfind(b"\n") + 1 if end < 0 else end + len(_HEAD_END) - len(self._tail)

    def _parse(self, piece: bytes) -> None:
        before, self._whole = self._part, False
        if before is _Part.BODY:
            if self._chunks.framing > MAX_HEAD:
                self._refuse(f"body 分块的开销超过 {MAX_HEAD // 1024} KiB")
            else:
                self._count_dropped(len(piece))
                if not self._refused:
                    super().data_received(piece)
            return
        piece = _OFFER.sub(b"x", piece) if before is _Part.HEAD else _ascii(piece)
        self._head += len(piece)
        self._tail = (self._tail + piece)[-len(_HEAD_END) + 1 :]
        super().data_received(piece)
        if self._part is _Part.LINE and piece.endswith(b"\n"):
            self._part = _Part.HEAD
        if self._head >= MAX_HEAD and self._part is not _Part.BODY and not self._whole and not self._refused:
            self._refuse(f"请求头 超过 {MAX_HEAD // 1024} KiB")

    def _count_dropped(self, size: int) -> None:
        self._dropped = 0 if self._answering else self._dropped + size
        if self._dropped > MOST_DROPPED:
            self._hang_up()

    def on_message_begin(self) -> None:
        if self._whole:  # the parser sees an end where we see none; no input is known that does this
            raise _Refused
        self._part = _Part.LINE
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part is _Part.BODY:  # a trailer
            return
        if len(self.headers) == MAX_HEADERS:
            self._reason = f"请求头 超过 {MAX_HEADERS} 个"
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # CONNECT: what follows would be no HTTP
            raise _Refused
        self._stop_waiting()
        self._part = _Part.BODY
        headers = dict(self.headers)
        self._left = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))
        self._chunks = Chunks()
        super().on_headers_complete()
        self._all.waits(self)
        self.cycle.transport = _Answer(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self._left is not None:
            self._left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._part, self._whole, self._head, self._tail = _Part.BETWEEN, True, 0, b""
        super().on_message_complete()
        if self._answering:
            self._all.works(self)
        else:
            self._rest()

    def on_response_complete(self) -> None:
        """Do as uvicorn does; its queue of parsed requests is always empty here."""
        if not self._refused:
            self._rest()
        self.server_state.total_requests += 1
        if self._part is _Part.BODY and (self._left or 0) > MOST_DROPPED:
            self._hang_up()
        if not (self.transport.is_closing() or self._refused):
            self.flow.resume_reading()
            self._parse_ahead()

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: uvicorn's own timer is never set."""

    def send_400_response(self, msg: str) -> None:
        """`msg` is the parser's, for the log; the caller gets our own text."""
        self._refuse(self._reason)

    def _refuse(self, detail: str) -> None:
        """Answer 400, the last answer on this connection, and drop all further input."""
        if self._answering:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:
                self._refused, self._ahead = True, b""
                self.transport.close()
                return
        self.transport.write(self._refusal(ApiError(400, f"{MESSAGES[400]}: {detail}")))
        self._hang_up()

    def end(self) -> None:
        """End the connection after its last answer. A caller that is still sending is read for a while: a reset
        would overtake the answer."""
        if self._part is _Part.BODY:
            self._hang_up()
        else:
            self.transport.close()

    def _hang_up(self) -> None:
        """Signal that nothing more will be answered, and read the caller's input for a moment."""
        self._refused, self._ahead = True, b""
        self._all.waits(self)
        self.flow.resume_reading()
        self.transport.write_eof()
        self._within(self._limits.linger_s)

    def _rest(self) -> None:
        """Note that the answer is complete. The rest of an unread body has to arrive in time."""
        self._all.waits(self)
        idle = self._part is _Part.BETWEEN and not self._ahead
        self._within(self._limits.idle_s if idle else self._limits.head_s)

    def _within(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._is_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _is_late(self) -> None:
        if self._is_idle() and self.out.has_unread():
            self._within(self._limits.head_s)  # a request came at the last moment: it is read next
        else:
            self.transport.close()

    def _is_idle(self) -> bool:
        return self._part is _Part.BETWEEN and not self._head and self.cycle is not None and not self._refused

    def _refusal(self, error: ApiError) -> bytes:
        answer = failure(error.code, error.message, {"Connection": "close", **(error.headers or {})})
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        phrase = b"Bad Request" if error.code == 400 else b"Service Unavailable"
        return b"HTTP/1.1 %d %s\r\n" % (error.code, phrase) + head + b"\r\n" + bytes(answer.body)


class _Answer:
    """A connection's transport as the cycle of a request sees it: the protocol decides how it ends."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol.transport, name)

    def close(self) -> None:
        """See `asyncio.Transport`."""
        self._protocol.end()


def _ascii(piece: bytes) -> bytes:
    return _NOT_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), piece)
