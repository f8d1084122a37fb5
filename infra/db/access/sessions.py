"""Sessions of the console: each belongs to a key and ends with it. A link begins one session, once.

Both are 32 random bytes, and stored as their SHA-256.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from infra.db.access import audit, callers
from infra.db.access.audit import Action, By
from infra.db.access.callers import Caller, hash_key
from infra.db.connection import Connection

LASTS_S = 12 * 3600
"""Seconds that a session lasts."""
LINK_LASTS_S = 3600
"""Seconds in which a link can be used."""
MOST = 100
"""Sessions and links that a key has at once: a new one ends the oldest."""

_FORGET = "DELETE FROM console_sessions WHERE expires_at <= clock_timestamp()"
_FORGET_OLDEST = f"""
    DELETE FROM console_sessions WHERE session_hash IN (
        SELECT session_hash FROM console_sessions WHERE key_id = %(key_id)s
         ORDER BY created_at DESC, session_hash OFFSET {MOST - 1})
    """
_BEGIN = """
    INSERT INTO console_sessions (session_hash, key_id, is_link, expires_at)
    VALUES (%(session_hash)s, %(key_id)s, %(is_link)s, clock_timestamp() + make_interval(secs => %(lasts_s)s))
    """
_END = "DELETE FROM console_sessions WHERE session_hash = %(session_hash)s AND NOT is_link"
_USE_LINK = """
    DELETE FROM console_sessions
     WHERE session_hash = %(session_hash)s AND is_link AND expires_at > clock_timestamp() RETURNING key_id
    """
_KEYS = """
    SELECT s.session_hash, k.key_hash FROM console_sessions s JOIN api_keys k USING (key_id)
     WHERE s.session_hash = ANY (%(hashes)s) AND s.is_link = %(is_link)s AND s.expires_at > clock_timestamp()
    """
_HASH_OF = "SELECT key_hash FROM api_keys WHERE key_id = %(key_id)s"


class _KeyOf(NamedTuple):
    session_hash: str
    key_hash: str


async def begin(connection: Connection, by: By, former: str = "") -> str:
    """Begin a session of the caller's key, and end the one that the browser had before. Returns the secret."""
    await audit.record(connection, by, Action.CONSOLE_SIGN_IN, by.key_id or "")
    await end(connection, former)
    return await _made(connection, by.key_id or "", is_link=False, lasts_s=LASTS_S)


async def link(connection: Connection, by: By) -> str:
    """The secret of a link that begins one session of the caller's key."""
    await audit.record(connection, by, Action.CONSOLE_LINK, by.key_id or "")
    return await _made(connection, by.key_id or "", is_link=True, lasts_s=LINK_LASTS_S)


async def follow(connection: Connection, secret: str, former: str = "") -> str | None:
    """Use a link up, and begin its session. Returns None if the link is unknown or used, or its key no longer valid."""
    key_id = await connection.one_or_none(str, _USE_LINK, {"session_hash": hash_key(secret)})
    if key_id is None:
        return None
    key_hash = await connection.one_or_none(str, _HASH_OF, {"key_id": key_id}) or ""
    caller = (await callers.find_all(connection, [key_hash])).get(key_hash)
    return None if caller is None else await begin(connection, caller, former)


async def end(connection: Connection, secret: str) -> None:
    """End a session. Repeating it does nothing."""
    await connection.execute(_END, {"session_hash": hash_key(secret)})


async def find_all(connection: Connection, hashes: list[str]) -> dict[str, Caller]:
    """The caller of each live session, by the hash of the session."""
    return await _callers(connection, hashes, is_link=False)


async def find_links(connection: Connection, hashes: list[str]) -> dict[str, Caller]:
    """The caller that each usable link signs in, by the hash of the link."""
    return await _callers(connection, hashes, is_link=True)


async def _callers(connection: Connection, hashes: list[str], *, is_link: bool) -> dict[str, Caller]:
    rows = await connection.all(_KeyOf, _KEYS, {"hashes": hashes, "is_link": is_link})
    keys = {row.session_hash: row.key_hash for row in rows}
    found = await callers.find_all(connection, sorted(set(keys.values()))) if keys else {}
    return {session: found[key] for session, key in keys.items() if key in found}


async def _made(connection: Connection, key_id: str, *, is_link: bool, lasts_s: float) -> str:
    await connection.execute(_FORGET)
    await connection.execute(_FORGET_OLDEST, {"key_id": key_id})
    secret = secrets.token_urlsafe(32)
    values = {"session_hash": hash_key(secret), "key_id": key_id, "is_link": is_link, "lasts_s": lasts_s}
    await connection.execute(_BEGIN, values)
    return secret
