"""Hearing at once that an attempt has closed, for a dispatch that waits for it (ADR 0016).

`attempts.accept_dispatched` writes the listener's channel into the attempt's row. Whoever closes the attempt then
notifies that channel in the same transaction, instead of signalling the task's workflow. A notification may be lost
with the listener or its connection, so nobody relies on one: whoever stops waiting reads the row (`give_up`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

from infra.db.connection import Connection

log = logging.getLogger(__name__)

NAME = "gpu-orchestrator"
REPEAT_S = 1.0
ALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""Keepalives: a silent connection counts as broken after 11 s without an answer."""
_GIVE_UP = text(
    "UPDATE attempts SET watched_by = NULL"
    " WHERE task_id = :task_id AND attempt = :attempt AND watched_by = :watched_by AND closed_at IS NULL"
)


class Closings:
    """Listens on a connection of its own, on a `channel` that no other process has."""

    def __init__(self, database_url: str) -> None:
        self.channel = f"closed_{secrets.token_hex(8)}"
        self.hears = False
        self._url = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._expected: dict[str, asyncio.Event] = {}

    @property
    def expected(self) -> int:
        """The number of attempts that are waited for."""
        return len(self._expected)

    @contextmanager
    def expect(self, task_id: str, attempt: int) -> Iterator[asyncio.Event]:
        """An event that is set once the attempt has closed. Call this before the row says who waits."""
        name = f"{task_id} {attempt}"
        closed = self._expected.setdefault(name, asyncio.Event())
        try:
            yield closed
        finally:
            self._expected.pop(name, None)

    async def run(self) -> None:
        """Listen until cancelled. Each outage is logged once."""
        told = False
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  whatever it is: without listening nothing is lost
                told = told and not self.hears
                log.log(
                    logging.DEBUG if told else logging.WARNING,
                    "closings are not heard: %s",
                    str(error).partition("\n")[0],
                )
                told = True
            finally:
                self.hears = False
            await asyncio.sleep(REPEAT_S)

    async def _listen(self) -> None:
        where = make_conninfo(self._url, connect_timeout=5, application_name=NAME, **ALIVE)
        connection = await psycopg.AsyncConnection.connect(where, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {self.channel}")
            self.hears = True
            async for heard in connection.notifies():
                if (event := self._expected.get(heard.payload)) is not None:
                    event.set()


async def give_up(connection: Connection, task_id: str, attempt: int, watched_by: str) -> bool:
    """Stop waiting for the attempt to close: its workflow is signalled from now on. Returns False if it has closed."""
    key = {"task_id": task_id, "attempt": attempt, "watched_by": watched_by}
    return (await connection.execute(_GIVE_UP, key)).rowcount == 1
