"""Alembic's environment: the program runs the migrations itself (`gpu-orchestrator migrate`)."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from infra.db.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=False)
    with context.begin_transaction():
        context.run_migrations()


_migrate(context.config.attributes["connection"])
