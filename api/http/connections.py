"""The open connections of one API process: how many there may be, and how far their readers may fall behind."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from infra import open_files

LEAST_PROGRESS = 64 * 1024
"""Bytes that a reader has to take within `Limits.stall_s`, if that many are left: 2 KiB a second."""
SPARE_FILES = 256
"""Descriptors that are not callers' connections: Postgres, Redis, Temporal, files."""
ACCEPTED_AT_ONCE = 2048
"""The accept backlog. Connections that have to make room for these are closed a moment later."""


@dataclass(frozen=True)
class Limits:
    """Limits on the connections of one process. Durations in seconds, sizes in bytes.

    4,000 connections are a thousand nodes, each with a second connection for reports, and two thousand users. Each
    holds at most 32 KiB of a head and 32 KiB that arrived ahead of an answer, so all together stay below 256 MiB.
    """

    most: int = 4000
    unsent: int = 128 * 1024 * 1024  # answers that wait for their readers, all together
    head_s: float = 30.0  # from a connection, or the first byte of a further request on it, to the end of the head
    idle_s: float = 75.0  # a proxy in front keeps its connections for 60
    stall_s: float = 30.0  # without progress of the reader
    linger_s: float = 2.0  # after a refusal: a reset would overtake it while the caller still sends


class Connection(Protocol):
    """The interface that the registry uses."""

    @property
    def out(self) -> Outgoing: ...

    @property
    def has_caller(self) -> bool:
        """Whether the last request whose head has been read is a known caller's."""


class Connections:
    """A registry of the open connections; it makes room for new ones.

    Those without a known caller make room first, so that nobody without a key takes the connections of others.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[Connection, None] = {}
        # By `has_caller`: those that wait for a request, or for the rest of one, the longest first.
        self._waiting: dict[bool, dict[Connection, None]] = {False: {}, True: {}}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Add a new connection, if necessary in place of another one. Returns False if there is no room."""
        if len(self._open) >= self.limits.most and not self._make_room():
            return False
        self._open[connection] = None
        self.waits(connection)
        return True

    def waits(self, connection: Connection) -> None:
        """Note that a request, or the rest of one, is awaited from now on."""
        self.works(connection)
        if connection in self._open:
            self._waiting[connection.has_caller][connection] = None

    def works(self, connection: Connection) -> None:
        """Note that a whole request is in flight."""
        for waiting in self._waiting.values():
            waiting.pop(connection, None)

    def leaves(self, connection: Connection) -> None:
        """Note that the connection is closed."""
        self._open.pop(connection, None)
        self.works(connection)

    def bound_unsent(self) -> None:
        """Cut the readers that have stalled the longest, as long as too much waits to be read."""
        behind = self._behind()
        total = sum(one.out.unsent for one in behind)
        for one in behind:
            if total <= self.limits.unsent:
                return
            total -= one.out.unsent
            self._cut(one)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest; if none waits, cut the reader stalled longest."""
        victim = next((one for known in (False, True) for one in self._yielding(known)), None)
        if victim is not None:
            self._cut(victim)
        return victim is not None

    def _yielding(self, known: bool) -> Iterator[Connection]:
        """The connections that can make room, with a known caller or without one.

        A request whose body is awaited has no known caller until its key is read; after that it is not cut.
        """
        yield from (one for one in self._waiting[known] if one.has_caller is known and _is_quiet(one))
        yield from (one for one in self._behind() if one.has_caller is known)
        if not known:  # a request of nobody's may be answered slowly, one after the other on a connection
            yield from (one for one in self._open if not one.has_caller)

    def _behind(self) -> list[Connection]:
        """The connections whose readers have not taken all: first those without a known caller, and of these the one
        that has stalled the longest."""
        return sorted((one for one in self._open if one.out.unsent), key=lambda one: (one.has_caller, one.out.since))

    def _cut(self, connection: Connection) -> None:
        self.leaves(connection)
        connection.out.abort()


def _is_quiet(connection: Connection) -> bool:
    return not connection.out.unsent and not connection.out.has_unread()


class Outgoing:
    """A transport that watches its reader, and is aborted if that makes no progress for `stall_s`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, connections: Connections) -> None:
        self._transport = transport
        self._loop = loop
        self._connections = connections
        self._stall_s = connections.limits.stall_s
        self._written = 0
        self._taken = 0  # bytes that the reader had taken at `since`
        self._look: asyncio.TimerHandle | None = None
        self.since = loop.time()  # when the reader last made progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def unsent(self) -> int:
        """Bytes that are written but not yet in the kernel's buffers."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport`."""
        if not self.unsent:
            self._progressed()
        self._written += len(data)
        self._transport.write(data)
        if self._look is None:
            self._look_later()
        if len(data) > LEAST_PROGRESS:
            self._connections.bound_unsent()

    def has_unread(self) -> bool:
        """Whether bytes have arrived that the loop has not read yet. The end of the stream does not count."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
        return any(not event & select.POLLRDHUP for _, event in poll.poll(0))

    def stop(self) -> None:
        """Note that the connection is lost and needs no more watching."""
        if self._look is not None:
            self._look.cancel()

    def _look_later(self) -> None:
        self._look = self._loop.call_later(self._stall_s / 6, self._check)

    def _check(self) -> None:
        self._look = None
        unsent = self.unsent
        if not unsent:
            return
        if self._written - unsent - self._taken >= LEAST_PROGRESS:
            self._progressed()
        if self._loop.time() - self.since >= self._stall_s:
            self._transport.abort()
            return
        self._look_later()

    def _progressed(self) -> None:
        self._taken = self._written - self.unsent
        self.since = self._loop.time()


def within_the_files(limits: Limits) -> Limits:
    """`limits`, with no more connections than this process may open files. Raises the soft limit of files first."""
    files = open_files.raised_to(limits.most + SPARE_FILES + ACCEPTED_AT_ONCE)
    return replace(limits, most=min(limits.most, max(files // 2, files - SPARE_FILES - ACCEPTED_AT_ONCE)))
