"""The address of the embedded database, and what must not change it."""

from __future__ import annotations

import os
from urllib.parse import quote

from infra.data_dir.layout import DataDir
from infra.settings import Settings
from infra.temporal import access

DATABASE = "orchestrator"
SUPERUSER = "postgres"
LIBPQ, TEMPORAL = "PG", access.VARIABLES
"""Prefixes of the variables that libpq and Temporal's tools read to reach services of a user's own."""


def postgres_url(data_dir: DataDir, database: str = DATABASE) -> str:
    """The address of the embedded Postgres, in the form that our programs take."""
    return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={quote(str(data_dir.sockets / 'postgres'))}"


def foreign_prefixes(settings: Settings) -> tuple[str, ...]:
    """Prefixes of variables to ignore: those of services that are embedded."""
    embedded = {LIBPQ: settings.database_url is None, TEMPORAL: settings.temporal_address is None}
    return tuple(prefix for prefix, is_ours in embedded.items() if is_ours)


def forget_foreign(settings: Settings) -> None:
    """Remove such variables from this process: libpq would fill in from them what an address leaves out."""
    for name in list(os.environ):
        if name.startswith(foreign_prefixes(settings)):
            del os.environ[name]
