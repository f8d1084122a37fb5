"""Lines out of a stream of bytes, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable


class LineSplitter:
    """Hands on each line; of one longer than `limit` bytes only the first `limit + 1`, so that it shows."""

    def __init__(self, take: Callable[[bytes], None], limit: int) -> None:
        self._take = take
        self._limit = limit
        self._partial = bytearray()

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        *complete, rest = data.split(b"\n")
        for line in complete:
            self._keep(line)
            self.end()
        self._keep(rest)

    def end(self) -> None:
        """The stream, or a line of it, has ended."""
        if self._partial:
            line = bytes(self._partial)
            self._partial.clear()
            self._take(line)

    def _keep(self, part: bytes) -> None:
        self._partial += part[: self._limit + 1 - len(self._partial)]
