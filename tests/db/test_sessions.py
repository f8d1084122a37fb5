"""Sessions of the console, in the database: what begins, ends and outlives what."""

from __future__ import annotations

import pytest

from infra.db.access import api_keys, callers, sessions
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import Actor
from infra.db.access.callers import hash_key
from infra.db.connection import Connection
from workflows.domain.role import Role

BY = Actor(None, "tests", None)


@pytest.fixture
async def caller(connection: Connection) -> callers.Caller:
    made = await api_keys.create(connection, NewKey(Role.OPERATOR, "ops"), BY)
    found = await callers.find(connection, made.secret)
    assert found is not None
    return found


async def is_open(connection: Connection, secret: str) -> bool:
    return hash_key(secret) in await sessions.find_all(connection, [hash_key(secret)])


async def test_a_session_is_its_key_until_either_ends(connection, caller):
    one, other = await sessions.begin(connection, caller), await sessions.begin(connection, caller)
    assert (await sessions.find_all(connection, [hash_key(one)]))[hash_key(one)] == caller
    await sessions.end(connection, one)
    assert [await is_open(connection, each) for each in (one, other)] == [False, True]
    await api_keys.revoke(connection, caller.key_id, BY)
    assert not await is_open(connection, other)


async def test_a_session_ends_after_its_time(connection, caller):
    one = await sessions.begin(connection, caller)
    await connection.execute("UPDATE console_sessions SET expires_at = clock_timestamp()")
    assert not await is_open(connection, one)
    await sessions.begin(connection, caller)
    assert await connection.one(int, "SELECT count(*) FROM console_sessions") == 1


async def test_a_link_is_no_session_and_begins_one(connection, caller):
    link = await sessions.link(connection, caller)
    assert not await is_open(connection, link)
    assert hash_key(link) in await sessions.find_links(connection, [hash_key(link)])
    made = await sessions.follow(connection, link)
    assert made is not None
    assert await is_open(connection, made)
    assert await sessions.follow(connection, link) is None
    await sessions.end(connection, link)


async def test_a_browser_has_one_session(connection, caller):
    former = await sessions.begin(connection, caller)
    made = await sessions.begin(connection, caller, former)
    entered = await sessions.follow(connection, await sessions.link(connection, caller), made)
    assert entered is not None
    assert [await is_open(connection, each) for each in (former, made, entered)] == [False, False, True]
    found = await connection.all(
        str, "SELECT action FROM audit_log WHERE key_id = %(id)s ORDER BY id", {"id": caller.key_id}
    )
    assert found == ["console.sign_in", "console.sign_in", "console.link", "console.sign_in"]


async def test_a_link_of_a_revoked_key_begins_nothing(connection, caller):
    link = await sessions.link(connection, caller)
    await api_keys.revoke(connection, caller.key_id, BY)
    assert await sessions.find_links(connection, [hash_key(link)]) == {}
    assert await sessions.follow(connection, link) is None


async def test_a_key_has_a_hundred_sessions_at_most(connection, caller):
    first = await sessions.begin(connection, caller)
    for _ in range(sessions.MOST):
        last = await sessions.begin(connection, caller)
    assert [await is_open(connection, each) for each in (first, last)] == [False, True]
    assert await connection.one(int, "SELECT count(*) FROM console_sessions") == sessions.MOST
