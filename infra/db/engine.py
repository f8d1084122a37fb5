"""The database connection pool, and the one way to run a transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIED_SQLSTATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock: the same work may be run again
RETRIES = 5
SESSION = (
    "timezone=UTC",
    "jit=off",  # our statements are short: compiling one costs more than running it
    "statement_timeout=30s",
    "idle_in_transaction_session_timeout=5s",  # a process that is paused in a transaction must not hold its locks
)


def create_engine(url: str, *, pool_size: int = 10) -> AsyncEngine:
    """A pool of connections to Postgres; `url` is `postgresql+psycopg://…` or `postgresql://…`."""
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        pool_pre_ping=False,
        pool_use_lifo=True,  # the same few connections again and again: theirs are the prepared statements
        hide_parameters=True,  # the text of an error goes to logs, histories and traces: no payload or token in it
        connect_args={
            "connect_timeout": 5,
            "prepare_threshold": 2,  # prepared when it comes for the third time: our statements are few
            "tcp_user_timeout": 10_000,  # ms until a connection whose other end is gone counts as broken
            "application_name": "gpu-orchestrator",
            "options": " ".join(f"-c {setting}" for setting in SESSION),
        },
    )


class Database:
    """Runs transactions on a pool. All SQL stands in the modules beside this one, never in a caller."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one READ COMMITTED transaction, again where the database asks for that.

        `work` must touch nothing but the connection, since it may run more than once.
        """
        for attempt in range(RETRIES):
            try:
                async with self._engine.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if not _may_repeat(error) or attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")

    async def ping(self) -> None:
        """Raise unless the database answers."""
        await self.run(_ping)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._engine.dispose()


async def _ping(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("SELECT 1")


def _may_repeat(error: DBAPIError) -> bool:
    """Deadlock or serialization failure: nothing of the transaction was kept."""
    return getattr(error.orig, "sqlstate", None) in RETRIED_SQLSTATES


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database is away, not that the work was wrong."""
    if isinstance(error, DBAPIError):
        sqlstate = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or (
            isinstance(error, OperationalError | InternalError)
            and (sqlstate is None or sqlstate[:2] in {"08", "53", "57"} or sqlstate == "25P03")
        )
    return isinstance(error, ConnectionError | TimeoutError | PoolTimeout)
