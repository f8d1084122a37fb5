"""API keys: stored as SHA-256 of 32 random bytes, looked up by hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FIND = text(
    "SELECT key_id, key_hash, role, owner FROM api_keys WHERE key_hash = :key_hash AND revoked_at IS NULL"
    " AND (expires_at IS NULL OR expires_at > clock_timestamp())"
)
_BOOTSTRAP = text(
    "INSERT INTO api_keys (key_id, key_hash, role, owner) VALUES (:key_id, :key_hash, 'admin', 'bootstrap')"
    " ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True)
class Caller:
    """Who calls: the key's id, its role and its owner."""

    key_id: str
    role: str
    owner: str


def hash_key(secret: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def find(connection: AsyncConnection, secret: str) -> Caller | None:
    """The caller behind a live key, or None."""
    hashed = hash_key(secret)
    row = (await connection.execute(_FIND, {"key_hash": hashed})).one_or_none()
    if row is None or not hmac.compare_digest(row.key_hash, hashed):
        return None
    return Caller(row.key_id, row.role, row.owner)


async def ensure_bootstrap(connection: AsyncConnection, secret: str) -> None:
    """The key of the setting API_KEY is an admin key."""
    hashed = hash_key(secret)
    await connection.execute(_BOOTSTRAP, {"key_id": f"key_{hashed[:12]}", "key_hash": hashed})
