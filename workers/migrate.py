"""`gpu-orchestrator migrate`: bring the database to the current schema and make the bootstrap key valid."""

from __future__ import annotations

import argparse
import asyncio
import logging

from pydantic import SecretStr

from infra import telemetry
from infra.db.access import bootstrap_key
from infra.db.schema.migrate import migrate
from infra.db.schema.revision import SchemaMismatch
from infra.db.session import Database, is_unavailable
from infra.resilience.retry import until_there
from infra.settings import Settings, load

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Returns exit status 0 once the schema is current."""
    settings = load("database_url")
    telemetry.log_to_stderr(settings.log_level)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        asyncio.run(prepare(settings))
    except SchemaMismatch as error:
        raise SystemExit(f"gpu-orchestrator migrate: {error}") from None
    return 0


async def prepare(settings: Settings) -> None:
    """The schema, then the bootstrap key."""
    assert settings.database_url is not None  # it was needed when they were loaded
    database = Database(settings.database_url, connections=2)
    try:
        await until_there("Postgres", lambda: migrate(database), is_unavailable)
        await _make_valid(database, settings.api_key)
    finally:
        await database.close()


async def _make_valid(database: Database, key: SecretStr | None) -> None:
    if key is None:
        return
    secret = key.get_secret_value()
    if not await database.run(lambda c: bootstrap_key.ensure(c, secret)):
        log.warning(
            "the value of ORCHESTRATOR_API_KEY is not made the bootstrap key: it is another key's, or was replaced or"
            " revoked before, and such a key never becomes valid again. Set the current value or a new one"
        )
