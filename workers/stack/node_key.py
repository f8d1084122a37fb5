"""The key of the stack's own nodes, kept in the data directory. A new one replaces it if it is dead or lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from infra.db import locks
from infra.db.access import local_node_key
from infra.db.connection import Connection
from infra.db.session import Database
from workers import secret_file


async def ensure_node_key(database_url: str, path: Path, gpu_ids: Sequence[str]) -> None:
    """Write a live node's key to `path`, mode 0600, that may register these ids. Raises psycopg.Error or OSError."""

    async def ensure(connection: Connection) -> None:
        await locks.own_nodes(connection)
        kept = secret_file.read(path)
        secret = await local_node_key.ensure_key(connection, kept, _owner(path), gpu_ids)
        if secret != kept or not _is_ours(path):
            # Before the commit: whoever waits for the lock reads it after that. Without a commit the key is dead.
            secret_file.replace(path, secret)

    database = Database(database_url, connections=2)
    try:
        await database.run(ensure)
    finally:
        await database.close()


def _owner(path: Path) -> str:
    """The owner of the key, different for each data directory: stacks that share a database leave each other's keys
    alone."""
    return f"local-nodes-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def _is_ours(path: Path) -> bool:
    """Whether an agent accepts this file: it takes no key from another user's."""
    return path.stat().st_uid == os.geteuid()
