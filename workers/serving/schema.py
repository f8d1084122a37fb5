"""Waiting at the start for a schema that this program can use: only `gpu-orchestrator migrate` makes one."""

from __future__ import annotations

import asyncio
import logging

from pydantic import SecretStr

from infra.db.access import callers
from infra.db.schema import revision
from infra.db.schema.revision import Schema
from infra.db.session import Database, is_unavailable
from infra.resilience.retry import until_there
from infra.settings import Settings
from workflows.domain.queue_policy import QueuePolicy

log = logging.getLogger(__name__)

PAUSE_S = 0.5
SAID_EVERY_S = 30.0


async def open_database(settings: Settings) -> Database:
    """The database of the settings, once this program can use it."""
    assert settings.database_url is not None  # it was needed when they were loaded
    database = Database(settings.database_url, policy=QueuePolicy(settings.vip_nodes_strict))
    await until_usable(database)
    await _warn_of_dead_key(database, settings.api_key)
    return database


async def _warn_of_dead_key(database: Database, key: SecretStr | None) -> None:
    """Warn of a process with an old environment; only `migrate` writes keys."""
    if key is None:
        return
    secret = key.get_secret_value()
    if await until_there("Postgres", lambda: database.run(lambda c: callers.find(c, secret)), is_unavailable) is None:
        log.warning(
            "the value of ORCHESTRATOR_API_KEY is not a valid key: `gpu-orchestrator migrate` makes a new value valid,"
            " and never one that was replaced or revoked"
        )


async def until_usable(database: Database, pause_s: float = PAUSE_S) -> None:
    """Return once the database has at least this program's schema; raise SystemExit where that is too new for it."""
    clock = asyncio.get_running_loop().time
    say_at = clock()
    while (found := await until_there("Postgres", lambda: database.run(revision.read), is_unavailable)).is_awaited:
        if clock() >= say_at:
            log.warning(_awaited(found))
            say_at = clock() + SAID_EVERY_S
        await asyncio.sleep(pause_s)
    if found.is_too_new:
        raise SystemExit(found.text_of_too_new)


def _awaited(found: Schema) -> str:
    has = "is empty" if found.revision is None else f"has the schema of revision {found.revision}"
    return (
        f"the database {has}: waiting for revision {revision.PROGRAM},"
        " which `gpu-orchestrator migrate` of this version or of a later one makes"
    )
