"""Reading from connections in small pieces: the protocol that uvicorn is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.http.connections import Connections, Limits
from api.http.protocol import MAX_HEAD, BoundedProtocol

_READ = memoryview(bytearray(MAX_HEAD))
"""The buffer into which every connection reads in turn. Each read is copied from it before the next one begins."""


class SmallReads(asyncio.BufferedProtocol):
    """Hands a protocol at most MAX_HEAD bytes at a time, so that no more can arrive ahead of what is parsed."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)  # type: ignore[arg-type]

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(_READ[:nbytes]))


def serving(limits: Limits) -> Callable[..., SmallReads]:
    """The factory for uvicorn's `Config(http=…)`, which makes one protocol for each connection."""
    connections = Connections(limits)
    return lambda **given: SmallReads(BoundedProtocol(**given, connections=connections))
