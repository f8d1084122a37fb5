"""The database: a connection pool, a deadline for each call, and the one way to run a transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg import InternalError, OperationalError
from psycopg.conninfo import make_conninfo
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool

from infra.db.connection import Connection, Opened, keep_first_line
from infra.environment import service_urls
from infra.resilience.circuit_breaker import CircuitBreaker
from workflows.domain.queue_policy import QueuePolicy

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it logs each request, and each try to connect

T = TypeVar("T")

RETRIED_SQLSTATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock: the same work may be run again
RETRIES = 5
AWAY_CLASSES = frozenset({"08", "40", "53", "57", "58"})
"""Classes of SQLSTATE: connection lost, rolled back, out of resources, operator intervention, system error."""
AWAY_SQLSTATES = frozenset({"25006", "25P03", "25P04", "55P03"})
"""Read-only (a standby, a full disk), idle-in-transaction timeout, transaction timeout, lock timeout."""
ANSWER_S = 8.0
"""Seconds after which a caller gives up a transaction: a database that hangs must not hang us.

It is more than the time after which a paused process loses its locks (see SESSION).
"""
STATEMENT_S = 30.0
"""Seconds after which Postgres itself ends a statement."""
PAUSE_S = 1.0
"""Seconds between tries once a call got no answer, and no other call did either. Further calls fail at once."""
TURN_S = 5.0
"""Seconds that a caller waits for a connection while all are in use."""
RECONNECT_S = 0.1
"""Seconds after which the connection pool no longer tries to connect. The next caller makes it try again, at once."""
CLOSE_S = 1.0
SESSION = (
    "timezone=UTC",
    "jit=off",  # our statements are short: compiling one costs more than running it
    f"statement_timeout={STATEMENT_S:g}s",
    "idle_in_transaction_session_timeout=5s",  # a process that is paused in a transaction must not hold its locks
)
OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # ms until a connection whose other end is gone counts as broken
    "application_name": "gpu-orchestrator",
    "options": " ".join(f"-c {setting}" for setting in SESSION),
}
"""Options of every connection."""
USUAL = QueuePolicy()
PREPARE_THRESHOLD = 2
"""A statement is prepared when it comes for the third time: our statements are few."""


def conninfo(url: str) -> str:
    """`url` (`postgresql+psycopg://…` or `postgresql://…`) as a connection string for libpq."""
    return make_conninfo(**service_urls.postgres_options(url))


class Transaction(Protocol):
    """Runs work in one transaction: `Database.run`."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T: ...


class DatabaseSilent(TimeoutError):
    """The database did not answer in time, or has not lately."""


class NoAnswer(DatabaseSilent):
    """A call got no answer in time. Others may: somebody may hold a lock that it needs."""


class Database:
    """Runs transactions on a connection pool. All SQL is in the modules of this folder, never in a caller."""

    def __init__(self, url: str, *, policy: QueuePolicy = USUAL, connections: int = 20) -> None:
        self._pool = AsyncConnectionPool(
            conninfo(url),
            connection_class=Opened,
            kwargs={**OPTIONS, "autocommit": True, "prepare_threshold": PREPARE_THRESHOLD, "tried": self._tried},
            min_size=0,
            max_size=connections,
            open=False,
            timeout=TURN_S,
            reconnect_timeout=RECONNECT_S,
        )
        self._circuit = CircuitBreaker(pause_s=PAUSE_S, after=1)
        self._running: set[asyncio.Task[Any]] = set()
        self._giving_back: set[asyncio.Task[Any] | None] = set()
        self._waiting: set[asyncio.Timeout] = set()
        self._lent = 0
        self._drained_at = 0.0
        self._refusal: psycopg.Error | None = None
        self.url = url
        self.policy = policy
        self._answered_at = 0.0  # by the monotonic clock; 0: never yet

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, within_s: float | None = ANSWER_S) -> T:
        """Run `work` in one READ COMMITTED transaction, again if the database asks for that.

        `work` must use only the connection, since it may run more than once. Raises psycopg.Error, and
        DatabaseSilent after `within_s`. Then, as after any lost connection, it is unknown whether the transaction was
        committed.
        """

        async def in_transaction(opened: Opened) -> T:
            async with opened.transaction():
                return await work(Connection(opened, self.policy))

        return await self._bounded(in_transaction, within_s)

    async def single(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`run` for `work` that is one statement: without BEGIN and COMMIT, two of its three round trips."""
        return await self._bounded(lambda opened: work(Connection(opened, self.policy)), ANSWER_S)

    async def _bounded(self, work: Callable[[Opened], Awaitable[T]], within_s: float | None) -> T:
        if not self._circuit.admits():
            raise DatabaseSilent("the database has not answered lately")
        began = time.monotonic()
        task = asyncio.create_task(self._repeated(work))
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            done, _ = await asyncio.wait((task,), timeout=within_s)
        except asyncio.CancelledError:
            self._give_up(task)
            raise
        if not done:
            self._give_up(task)
        error = task.exception() if done else NoAnswer(f"no answer within {within_s:g} s")
        if error is None or not is_unavailable(error):  # an error of the work is an answer, too
            self._circuit.answered()
            self._answered_at = time.monotonic()
        elif (not done or time.monotonic() - began > PAUSE_S) and self._answered_at < began:
            self._circuit.failed()
        if error is not None:
            raise error
        return task.result()

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        """Cancel the work, without waiting for its end, which may take as long again.

        Work that is returning its connection is left alone: if cancelled there, the pool would lose the connection.
        """
        if task not in self._giving_back:
            task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # re-raised to the caller if it is still waiting

    async def _repeated(self, work: Callable[[Opened], Awaitable[T]]) -> T:
        for attempt in range(RETRIES):
            try:
                return await self._lend(work)
            except psycopg.Error as error:
                if error.sqlstate not in RETRIED_SQLSTATES or attempt == RETRIES - 1:
                    keep_first_line(error)  # of a COMMIT
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")

    async def _lend(self, work: Callable[[Opened], Awaitable[T]]) -> T:
        opened = await self._turn()
        self._lent += 1
        try:
            return await work(opened)
        except asyncio.CancelledError:
            await opened.close()  # its state is unknown
            raise
        except ReadOnlySqlTransaction:
            opened.lost = True  # a new connection may lead to a server that can be written
            await opened.close()
            raise
        finally:
            self._lent -= 1
            await self._give_back(opened)

    async def _give_back(self, opened: Opened) -> None:
        task = asyncio.current_task()
        self._giving_back.add(task)
        try:
            since = self._drained_at + (PAUSE_S if opened.lost else 0.0)  # a read-only server still answers
            if (opened.broken or opened.lost) and opened.opened_at > since:
                self._drained_at = time.monotonic()
                await self._pool.drain()  # the others are probably lost too
            await self._pool.putconn(opened)
        finally:
            self._giving_back.discard(task)

    async def _turn(self) -> Opened:
        """A connection. Fails at once when Postgres refuses one while it lends us none."""
        if self._pool.closed:
            await self._pool.open()
        try:
            async with asyncio.timeout(None) as turn:
                self._waiting.add(turn)
                try:
                    return await self._pool.getconn()
                finally:
                    self._waiting.discard(turn)
        except TimeoutError:
            raise DatabaseSilent(f"no connection: {self._refusal}") from self._refusal

    def _tried(self, refusal: psycopg.Error | None) -> None:
        """Note whether a connection could be opened, and notify the callers that wait for one."""
        if refusal is None:
            self._circuit.answered()
            return
        keep_first_line(refusal)
        self._refusal = refusal
        if self._lent:
            return  # there are too many connections, or those that are lent will soon be found lost
        self._circuit.open()
        for turn in self._waiting:
            if not turn.expired():
                turn.reschedule(0)

    async def ping(self) -> None:
        """Raise unless the database answers."""
        await self.single(_ping)

    async def close(self) -> None:
        """Close every connection, once calls that were given up have returned theirs."""
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_S)
        await self._pool.close(CLOSE_S)


async def _ping(connection: Connection) -> None:
    await connection.one(int, "SELECT 1")


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database is away or cannot do it now, and not that the work was wrong."""
    error = getattr(error, "orig", error)  # of SQLAlchemy's, from a migration
    if isinstance(error, OperationalError | InternalError):
        state = error.sqlstate
        return state is None or state[:2] in AWAY_CLASSES or state in AWAY_SQLSTATES
    return isinstance(error, ConnectionError | TimeoutError)


def is_lost(error: BaseException) -> bool:
    """Whether the database itself is away, and not only a row that somebody holds: then no other work succeeds."""
    return is_unavailable(error) and not isinstance(error, NoAnswer)
