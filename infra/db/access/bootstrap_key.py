"""The bootstrap key: the key whose secret is the setting API_KEY."""

from __future__ import annotations

from infra.db import locks
from infra.db.access import audit
from infra.db.access.api_keys import BOOTSTRAP, NewKey, write
from infra.db.access.audit import BY_ITSELF, Action
from infra.db.access.callers import IS_LIVE, hash_key
from infra.db.connection import Connection
from workflows.domain.role import Role

REPLACED = "API_KEY"
"""`revoked_by` of a bootstrap key that another value of the setting has replaced."""

_LINEAGE = f"SELECT lineage FROM api_keys WHERE owner = '{BOOTSTRAP}' ORDER BY created_at DESC, key_id LIMIT 1"
_REPLACE_OTHERS = (
    f"UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = '{REPLACED}'"
    f" WHERE owner = '{BOOTSTRAP}' AND key_hash <> %(key_hash)s AND revoked_at IS NULL RETURNING key_id"
)
_OPENS = f"SELECT owner = '{BOOTSTRAP}' AND {IS_LIVE.format(key='k')} FROM api_keys k WHERE key_hash = %(key_hash)s"


async def ensure(connection: Connection, secret: str) -> bool:
    """Make a new value of API_KEY the bootstrap key, and end the one before. Returns whether the value opens the API as
    the bootstrap key.

    A value that was seen before changes nothing: a key that was replaced or revoked never becomes valid again.
    """
    hashed = hash_key(secret)
    await locks.bootstrap_key(connection)
    opens = await connection.one_or_none(bool, _OPENS, {"key_hash": hashed})
    if opens is None:
        await _replace(connection, hashed)
        return True
    return opens


async def _replace(connection: Connection, hashed: str) -> None:
    key_id = f"key_{hashed[:12]}"
    for replaced in await connection.all(str, _REPLACE_OTHERS, {"key_hash": hashed}):
        await audit.record(connection, BY_ITSELF, Action.KEY_REVOKE, replaced, "another API_KEY is set")
    lineage = await connection.one_or_none(str, _LINEAGE) or key_id
    await write(connection, key_id, hashed, NewKey(Role.ADMIN, BOOTSTRAP), lineage)
    await audit.record(connection, BY_ITSELF, Action.KEY_CREATE, key_id, f"{Role.ADMIN} {BOOTSTRAP}")
