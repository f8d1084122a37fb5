"""Forcing a race: one transaction of ours is held open until the others are seen to wait for it, then it commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import eventually
from tests.db.sessions import Session, Sessions
from workers.stack.stack import Stack

# What a backend is seen to wait with, by the product's own statements. Postgres shows their first 1,024 bytes.
SETTLES = "a.closed_at, g.epoch"
CHANGES_NODE = "gone_at IS NULL FOR UPDATE"  # by a beat, a call or a signal
CHANGES_PRIORITY = "SET priority ="
CLAIMS = "FROM gpus g CROSS JOIN LATERAL"
ENDS = "SELECT true FROM tasks WHERE task_id"
HOLDS_NODE = "SELECT lineage FROM gpus WHERE gpu_id ="

LOCK_NODE = "SELECT FROM gpus WHERE gpu_id = %(gpu_id)s FOR UPDATE"
_PID = "SELECT pg_backend_pid()"
_NO_TIMEOUT = "SET LOCAL idle_in_transaction_session_timeout = 0"
_WAITING = """
    WITH RECURSIVE behind AS (
        SELECT CAST(%(pid)s AS integer) AS pid
         UNION
        SELECT a.pid FROM pg_stat_activity a JOIN behind b ON b.pid = ANY (pg_blocking_pids(a.pid)))
    SELECT query FROM pg_stat_activity JOIN behind USING (pid) WHERE pid <> %(pid)s
    """


class Held:
    """An open transaction, and a look at who waits for it, directly or behind another one."""

    def __init__(self, connection: Session, engine: Sessions, pid: int) -> None:
        self.connection = connection
        self._engine = engine
        self._pid = pid

    async def lock_node(self, gpu_id: str) -> None:
        """Hold the node's row: settling on this node, or changing it, waits from now on."""
        await self.connection.execute(LOCK_NODE, {"gpu_id": gpu_id})

    async def until_waiting(self, *statements: str) -> None:
        """Wait until a backend waits for each of these (named twice: two of them), which proves the race."""

        async def all_of_them() -> bool:
            async with self._engine.connect() as watcher:
                waiting = await watcher.all(str, _WAITING, {"pid": self._pid})
            wanted = Counter(statements)
            return all(sum(one in query for query in waiting) >= count for one, count in wanted.items())

        await eventually(all_of_them)

    async def commit(self) -> None:
        """Let them go on."""
        await self.connection.commit()


@asynccontextmanager
async def held(stack: Stack) -> AsyncIterator[Held]:
    """A transaction on the stack's database; what is not committed is rolled back."""
    async with held_on(Sessions(stack.services.database_url)) as transaction:
        yield transaction


@asynccontextmanager
async def held_on(engine: Sessions) -> AsyncIterator[Held]:
    """The same on any database."""
    async with engine.connect() as connection:
        pid = await connection.one(int, _PID)
        await connection.execute(_NO_TIMEOUT)
        yield Held(connection, engine, pid)
