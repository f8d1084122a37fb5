"""The callers of the API by their keys: looked up by hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.db.connection import Connection
from workflows.domain.key_limits import UNLIMITED, KeyLimits
from workflows.domain.role import Role

log = logging.getLogger(__name__)

IS_LIVE = "{key}.revoked_at IS NULL AND ({key}.expires_at IS NULL OR {key}.expires_at > clock_timestamp())"
"""The key of a row `key` of `api_keys` may be used."""
_IS_LIVE = IS_LIVE.format(key="api_keys")
_LIVE = f"SELECT key_id FROM api_keys WHERE key_id = ANY(%(key_ids)s) AND {_IS_LIVE}"
_IS_REVOKED = f"""
    SELECT count(revoked_at) > 0 AND count(*) FILTER (WHERE {_IS_LIVE}) = 0
      FROM api_keys WHERE lineage = %(lineage)s
    """
_FIND = f"""
    SELECT key_id, key_hash, role, owner, lineage, acts_for_others,
           (SELECT grants FROM key_grants g WHERE g.lineage = api_keys.lineage) AS grants
      FROM api_keys WHERE key_hash = ANY(%(hashes)s) AND {_IS_LIVE}
    """


@dataclass(frozen=True)
class Caller:
    """A caller: the key's id, its role, its owner and its lineage."""

    key_id: str
    role: Role
    owner: str
    lineage: str
    acts_for_others: bool = False
    limits: KeyLimits = UNLIMITED

    @property
    def node_lineage(self) -> str | None:
        """The lineage of the only nodes that the caller may read and change, or None for any node."""
        return self.lineage if self.role is Role.NODE else None


@dataclass(frozen=True)
class _Live:
    key_id: str
    key_hash: str
    role: str
    owner: str
    lineage: str
    acts_for_others: bool
    grants: dict[str, Any] | None


def hash_key(secret: str) -> str:
    """The stored form of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def find(connection: Connection, secret: str) -> Caller | None:
    """The caller of a live key, or None."""
    hashed = hash_key(secret)
    return (await find_all(connection, [hashed])).get(hashed)


async def find_all(connection: Connection, hashes: list[str]) -> dict[str, Caller]:
    """The callers of the live ones among these keys, by their hashes.

    A key with a grant that a later version wrote opens nothing: this version cannot enforce it.
    """
    rows = {row.key_hash: row for row in await connection.all(_Live, _FIND, {"hashes": hashes})}
    same = (hashed for hashed in hashes if hashed in rows and hmac.compare_digest(rows[hashed].key_hash, hashed))
    callers = ((hashed, _caller(rows[hashed])) for hashed in same)
    return {hashed: caller for hashed, caller in callers if caller is not None}


async def live(connection: Connection, key_ids: Sequence[str]) -> set[str]:
    """The live keys among these."""
    return set(await connection.all(str, _LIVE, {"key_ids": list(key_ids)}))


async def is_revoked(connection: Connection, lineage: str) -> bool:
    """Whether a key of the lineage was revoked, and none of it is live."""
    return await connection.one(bool, _IS_REVOKED, {"lineage": lineage})


def _caller(row: _Live) -> Caller | None:
    try:
        role, limits = Role(row.role), KeyLimits.of(row.grants)
    except (KeyError, ValueError):
        log.error("the key %s is refused: it has a role or a grant that this version does not know", row.key_id)
        return None
    return Caller(row.key_id, role, row.owner, row.lineage, row.acts_for_others, limits)
