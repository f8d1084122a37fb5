"""The end of a chunked body (RFC 9112, 7.1), and how much of it is framing."""

from __future__ import annotations


class Chunks:
    """Walks over a chunked body as it arrives. Malformed framing is left to the parser, which refuses it."""

    def __init__(self) -> None:
        self.framing = 0  # bytes of sizes, extensions and trailers
        self.over = False
        self._left = 0  # bytes of the chunk, and of the line break after it
        self._line = b""
        self._in_trailers = False

    def take(self, data: bytes) -> int:
        """The number of bytes that belong to the body."""
        at = 0
        while at < len(data) and not self.over:
            at += self._content(len(data) - at) if self._left else self._frame(data, at)
        return at

    def _content(self, there: int) -> int:
        step = min(self._left, there)
        self._left -= step
        return step

    def _frame(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        self.framing += end - at
        if self._line.endswith(b"\n"):
            self._line_ends(self._line.strip())
            self._line = b""
        return end - at

    def _line_ends(self, line: bytes) -> None:
        if self._in_trailers:
            self.over = not line
            return
        size = _size(line)
        self._in_trailers = size == 0
        self._left = size + len(b"\r\n") if size else 0


def _size(line: bytes) -> int:
    try:
        return max(0, int(line.partition(b";")[0], 16))
    except ValueError:
        return 0
