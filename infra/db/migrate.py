"""Bring a database to the current schema. Safe to run from several processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from infra.db.engine import Database

MIGRATIONS = Path(__file__).parent.parent / "migrations"
_LOCK = 7100  # advisory lock: one migration at a time


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for one connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run every migration that is missing, inside the caller's transaction."""
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):  # a large table may take its time
        connection.execute(text(f"SET LOCAL {setting} = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    command.upgrade(alembic_config(connection), "head")


async def migrate(database: Database) -> None:
    """`upgrade` in a transaction of its own: all of it or nothing."""
    await database.alter(upgrade)
