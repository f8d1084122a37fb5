"""API keys: made, listed, rotated and revoked. They are stored as SHA-256 of 32 random bytes.

A key and its successors by `rotate` are one lineage. The lineage identifies the caller for whatever outlives a single
secret: the gpuIds that it holds, and its Idempotency-Keys.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.db.access import audit
from infra.db.access.audit import Action, Actor
from infra.db.access.callers import hash_key
from infra.db.connection import Connection
from workflows.domain.key_limits import UNLIMITED, KeyLimits
from workflows.domain.role import Role

PREFIX = "gpo_"
BOOTSTRAP = "bootstrap"
"""The owner of the keys that come from the setting API_KEY, and of no others."""

_COLUMNS = """
    key_id, role, owner, lineage, acts_for_others, note, created_at, expires_at, revoked_at,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= clock_timestamp() THEN 'expired'
         ELSE 'live' END AS state,
    (SELECT grants FROM key_grants g WHERE g.lineage = api_keys.lineage) AS grants
"""
_INSERT = """
    INSERT INTO api_keys (key_id, key_hash, role, owner, lineage, acts_for_others, note, expires_at)
    VALUES (%(key_id)s, %(key_hash)s, %(role)s, %(owner)s, %(lineage)s, %(acts_for_others)s, %(note)s, %(expires_at)s)
    """
_GRANT = "INSERT INTO key_grants (lineage, grants) VALUES (%(lineage)s, CAST(%(grants)s AS json))"
_LIST = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, key_id"
_PAGE = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at DESC, key_id LIMIT %(limit)s OFFSET %(offset)s"
_COUNT = "SELECT count(*) FROM api_keys"
_LOCK = f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = %(key_id)s FOR UPDATE"
_IS_PAST = "SELECT CAST(%(moment)s AS timestamptz) <= clock_timestamp()"
_REVOKE = "UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = %(by)s WHERE key_id = %(key_id)s"
_REVOKE_BEFORE = f"""
    UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = %(by)s
     WHERE revoked_at IS NULL AND key_id <> ALL (CAST(%(spared)s AS text[]))
       AND (created_at < COALESCE(CAST(%(moment)s AS timestamptz), clock_timestamp() - make_interval(secs => %(age_s)s))
            OR created_at > clock_timestamp())
 RETURNING {_COLUMNS}
    """
_KNOWN = "SELECT key_id FROM api_keys WHERE key_id = ANY (CAST(%(key_ids)s AS text[]))"
# Those of a lineage that were made while the clock was ahead were made just now, in the same order: otherwise a
# successor would be the older one of the two. They live as long as they were meant to.
_SET_RIGHT = """
    UPDATE api_keys k SET created_at = n.at, expires_at = n.at + (k.expires_at - k.created_at)
      FROM (SELECT key_id, statement_timestamp()
                   - row_number() OVER (ORDER BY created_at DESC, key_id DESC) * interval '1 microsecond' AS at
              FROM api_keys WHERE lineage = %(lineage)s AND created_at > clock_timestamp()) n
     WHERE k.key_id = n.key_id
    """
_NEWEST = (  # never rotated: so its expiry is the one that it was made with
    f"SELECT {_COLUMNS}, clock_timestamp() + (expires_at - created_at) AS next_expiry FROM api_keys"
    " WHERE lineage = %(lineage)s ORDER BY created_at DESC, key_id DESC LIMIT 1"
)
_END_AFTER = (
    "UPDATE api_keys SET expires_at = LEAST(expires_at, clock_timestamp() + make_interval(secs => %(overlap)s))"
    " WHERE key_id = %(key_id)s RETURNING expires_at"
)


class KeyRefused(Exception):
    """A key command that cannot be carried out; the text is for its user."""


@dataclass(frozen=True)
class StoredKey:
    """A key as it is listed, without its hash."""

    key_id: str
    role: str
    owner: str
    lineage: str
    acts_for_others: bool
    note: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    state: str
    """live, expired or revoked."""
    grants: dict[str, Any] | None


@dataclass(frozen=True)
class _Newest(StoredKey):
    next_expiry: datetime | None


@dataclass(frozen=True)
class NewKey:
    """A key to make."""

    role: Role
    owner: str
    expires_at: datetime | None = None
    acts_for_others: bool = False
    note: str | None = None
    limits: KeyLimits = UNLIMITED


@dataclass(frozen=True)
class MadeKey:
    """A new key. Only this object has its secret."""

    key_id: str
    secret: str
    key: NewKey


async def list_all(connection: Connection) -> list[StoredKey]:
    """Every key, oldest first, without secrets and hashes."""
    return await connection.all(StoredKey, _LIST)


async def page(connection: Connection, *, limit: int, offset: int) -> tuple[list[StoredKey], int]:
    """One page of keys, newest first, without secrets and hashes; and how many there are."""
    keys = await connection.all(StoredKey, _PAGE, {"limit": limit, "offset": offset})
    return keys, await connection.one(int, _COUNT)


async def create(connection: Connection, key: NewKey, by: Actor) -> MadeKey:
    """Make a key, the first of its lineage. Raises KeyRefused."""
    if key.owner == BOOTSTRAP:
        raise KeyRefused(f"the owner {BOOTSTRAP!r} is kept for the key of the setting API_KEY")
    if key.acts_for_others and key.role is not Role.USER:
        raise KeyRefused("only a user's key can act for others: the other roles create for anybody, or for nobody")
    if beyond := key.limits.beyond(key.role):
        raise KeyRefused(f"these limit nothing for the role {key.role}: {', '.join(beyond)}")
    if key.expires_at is not None and await connection.one(bool, _IS_PAST, {"moment": key.expires_at}):
        raise KeyRefused("the expiry lies in the past")
    made = await _insert(connection, key, lineage=None)
    if granted := key.limits.shown():
        values = {"lineage": made.key_id, "grants": json.dumps(granted, ensure_ascii=False)}
        await connection.execute(_GRANT, values)
    await audit.record(connection, by, Action.KEY_CREATE, made.key_id, f"{key.role} {key.owner}")
    return made


async def revoke(connection: Connection, key_id: str, by: Actor) -> bool:
    """End a key now, for good. Returns False if it was revoked before. Raises KeyRefused."""
    row = await _lock(connection, key_id)
    changed = row.state != "revoked"
    if changed:
        await connection.execute(_REVOKE, {"key_id": key_id, "by": by.owner})
    await audit.record(connection, by, Action.KEY_REVOKE, key_id, changed=changed)
    return changed


async def revoke_before(
    connection: Connection,
    moment: datetime | None,
    by: Actor,
    *,
    age_s: float = 0.0,
    spared: Sequence[str] = (),
) -> list[StoredKey]:
    """End every key made before `moment`, or more than `age_s` seconds ago if that is None. Returns those keys.

    Keys made while the clock was ahead end too: nobody knows when that was. So does the bootstrap key. Raises
    KeyRefused if a key to spare is unknown.
    """
    known = await connection.all(str, _KNOWN, {"key_ids": list(spared)})
    if unknown := [key_id for key_id in spared if key_id not in known]:
        raise KeyRefused(f"there is no key {', '.join(unknown)}: nothing was revoked")
    values = {"moment": moment, "age_s": age_s, "spared": list(spared), "by": by.owner}
    rows = await connection.all(StoredKey, _REVOKE_BEFORE, values)
    for row in rows:
        await audit.record(connection, by, Action.KEY_REVOKE, row.key_id, "all before a time")
    return sorted(rows, key=lambda row: (row.created_at, row.key_id))


async def rotate(connection: Connection, key_id: str, overlap_s: float, by: Actor) -> tuple[MadeKey, datetime]:
    """Make a successor with the same role, owner and options; the old key ends at most `overlap_s` seconds from now.

    The successor is valid for as long as the old key was when it was made. Raises KeyRefused.
    """
    lineage = (await _lock(connection, key_id)).lineage
    await connection.execute(_SET_RIGHT, {"lineage": lineage})
    row = await _lock(connection, key_id)
    newest = await connection.one(_Newest, _NEWEST, {"lineage": row.lineage})
    if row.state != "live":
        raise KeyRefused(f"{key_id} is {row.state}: make a new key instead")
    if row.owner == BOOTSTRAP:
        raise KeyRefused(f"{key_id} is the key of the setting API_KEY: change that instead")
    if newest.key_id != key_id and newest.state == "live":
        raise KeyRefused(f"{key_id} has been rotated: its successor is {newest.key_id}")
    key = NewKey(Role(row.role), row.owner, newest.next_expiry, row.acts_for_others, row.note, KeyLimits.of(row.grants))
    made = await _insert(connection, key, lineage=row.lineage)
    ends_at = await connection.one(datetime, _END_AFTER, {"key_id": key_id, "overlap": overlap_s})
    await audit.record(connection, by, Action.KEY_ROTATE, key_id, f"successor {made.key_id}")
    return made, ends_at


async def _insert(connection: Connection, key: NewKey, lineage: str | None) -> MadeKey:
    made = MadeKey(f"key_{secrets.token_hex(6)}", PREFIX + secrets.token_urlsafe(32), key)
    await write(connection, made.key_id, hash_key(made.secret), key, lineage or made.key_id)
    return made


async def write(connection: Connection, key_id: str, hashed: str, key: NewKey, lineage: str) -> None:
    """Write the row of a key. `hashed`: see `callers.hash_key`."""
    values = {name: value for name, value in key.__dict__.items() if name != "limits"}
    await connection.execute(_INSERT, values | {"key_id": key_id, "key_hash": hashed, "lineage": lineage})


async def _lock(connection: Connection, key_id: str) -> StoredKey:
    row = await connection.one_or_none(StoredKey, _LOCK, {"key_id": key_id})
    if row is None:
        raise KeyRefused(f"there is no key {key_id}")
    return row
