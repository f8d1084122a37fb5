"""`gpu-orchestrator migrate`: bring the database to the current schema and make the bootstrap key valid."""

from __future__ import annotations

import argparse
import asyncio

from infra.db import keys
from infra.db.engine import Database, create_engine
from infra.db.migrate import migrate
from infra.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """No options: all settings come from the environment."""


def run(args: argparse.Namespace) -> int:
    """Exit status 0 once the schema is current."""
    asyncio.run(prepare(Settings()))
    return 0


async def prepare(settings: Settings) -> None:
    """The schema, then the bootstrap key."""
    if settings.database_url is None:
        raise SystemExit("ORCHESTRATOR_DATABASE_URL is not set (`gpu-orchestrator run` sets it)")
    database = Database(create_engine(settings.database_url, pool_size=1))
    try:
        await migrate(database)
        secret = settings.api_key
        if secret is not None:
            await database.run(lambda c: keys.ensure_bootstrap(c, secret.get_secret_value()))
    finally:
        await database.close()
