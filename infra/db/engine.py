"""The database connection pool, and the one way to run a transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from infra.db.connection import Connection, keep_first_line
from infra.db.lending import LENT_BY_KEPT, TURN_S, Lender
from infra.resilience.circuit_breaker import CircuitBreaker

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIED_SQLSTATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock: the same work may be run again
RETRIES = 5
ANSWER_S = 8.0
"""Seconds after which a caller gives up a transaction: a database that hangs must not hang us.

It is more than the time after which a paused process loses its locks (see SESSION).
"""
PAUSE_S, SILENCES = 1.0, 3
"""After several transactions in a row without an answer, only one per pause is tried."""
SESSION = (
    "timezone=UTC",
    "jit=off",  # our statements are short: compiling one costs more than running it
    "statement_timeout=30s",
    "idle_in_transaction_session_timeout=5s",  # a process that is paused in a transaction must not hold its locks
)


def create_engine(url: str, *, pool_size: int = 10) -> AsyncEngine:
    """Up to twice `pool_size` connections to Postgres; `url` is `postgresql+psycopg://…` or `postgresql://…`."""
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=(LENT_BY_KEPT - 1) * pool_size,
        pool_timeout=TURN_S,
        pool_pre_ping=False,
        hide_parameters=True,  # the text of an error goes to logs, histories and traces: no payload or token in it
        connect_args={
            "connect_timeout": 5,
            "prepare_threshold": 2,  # prepared when it comes for the third time: our statements are few
            "tcp_user_timeout": 10_000,  # ms until a connection whose other end is gone counts as broken
            "application_name": "gpu-orchestrator",
            "options": " ".join(f"-c {setting}" for setting in SESSION),
        },
    )
    event.listen(engine.sync_engine, "handle_error", _keep_first_line)
    return engine


def _keep_first_line(context: ExceptionContext) -> None:
    for error in (context.original_exception, context.sqlalchemy_exception):
        if isinstance(error, DBAPIError | psycopg.Error):
            keep_first_line(error)


_PING = text("SELECT 1")


class DatabaseSilent(TimeoutError):
    """The database did not answer in time, or has not lately."""


class Database:
    """Runs transactions on a pool. All SQL is in the modules of this folder, never in a caller."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lender = Lender(engine)
        self._circuit = CircuitBreaker(pause_s=PAUSE_S, after=SILENCES)
        self._running: set[asyncio.Task[Any]] = set()
        self.answered_at = 0.0  # by the monotonic clock; 0: never yet

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, within_s: float | None = ANSWER_S) -> T:
        """Run `work` in one READ COMMITTED transaction, again if the database asks for that.

        `work` must use nothing but the connection, since it may run more than once. Raises DatabaseSilent after
        `within_s`. Then, as after any lost connection, nobody knows whether the transaction was committed.
        """
        return await self._bounded(lambda: self._in_transaction(work), within_s)

    async def single(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`run` for `work` that is one statement: without BEGIN and COMMIT, two of its three round trips."""
        return await self._bounded(lambda: self._alone(work), ANSWER_S)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncConnection]:
        """A connection of SQLAlchemy's own, closed at the end: settings of its session affect nobody else."""
        async with self._engine.connect() as connection:
            try:
                yield connection
            finally:
                await connection.invalidate()

    async def _bounded(self, work: Callable[[], Awaitable[T]], within_s: float | None) -> T:
        if not self._circuit.admits():
            raise DatabaseSilent("the database has not answered lately")
        task = asyncio.create_task(self._repeated(work))
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            done, _ = await asyncio.wait((task,), timeout=within_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()  # it gives its connection back, or up, which may take as long again: nobody waits for that
            self._circuit.failed()
            raise DatabaseSilent(f"no answer within {within_s:g} s")
        if task.exception() is None:
            self._circuit.answered()
            self.answered_at = time.monotonic()
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # re-raised to the caller if it is still waiting

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._lender.transaction() as connection:
            return await work(connection)

    async def _alone(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._lender.singles() as connection:
            return await work(connection)

    async def _repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(RETRIES):
            try:
                return await work()
            except DBAPIError as error:
                if not _may_repeat(error) or attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")

    async def ping(self) -> None:
        """Raise unless the database answers."""
        await self.run(_ping)

    async def close(self) -> None:
        """Close every pooled connection, once calls that were given up have returned theirs."""
        if self._running:
            await asyncio.wait(self._running, timeout=1)
        await self._lender.close()
        await self._engine.dispose()


async def _ping(connection: Connection) -> None:
    await connection.execute(_PING)


def _may_repeat(error: DBAPIError) -> bool:
    """Whether it is a deadlock or serialization failure: nothing of the transaction was kept."""
    return getattr(error.orig, "sqlstate", None) in RETRIED_SQLSTATES


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database is away, and not that the work was wrong."""
    if isinstance(error, DBAPIError):
        sqlstate = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or (
            isinstance(error, OperationalError | InternalError)
            and (sqlstate is None or sqlstate[:2] in {"08", "53", "57"} or sqlstate == "25P03")
        )
    return isinstance(error, ConnectionError | TimeoutError | PoolTimeout)
