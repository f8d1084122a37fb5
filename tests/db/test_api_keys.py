"""The bootstrap key: it follows the setting API_KEY, and nothing that was revoked comes back by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.db.access import api_keys, bootstrap_key, callers
from infra.db.access.api_keys import KeyRefused, NewKey
from infra.db.access.audit import Actor
from workflows.domain.role import Role

BY = Actor(None, "tests", None)


async def lineage_of(connection, secret):
    """The lineage of the key with this secret, if it opens the API."""
    found = await callers.find(connection, secret)
    return None if found is None else found.lineage


async def test_a_changed_api_key_ends_the_old_one(connection):
    """The new key has everything that was the old one's."""
    assert await bootstrap_key.ensure(connection, "first")
    lineage = await lineage_of(connection, "first")
    assert await bootstrap_key.ensure(connection, "second")
    assert await bootstrap_key.ensure(connection, "second")
    assert await lineage_of(connection, "first") is None
    assert await lineage_of(connection, "second") == lineage is not None


async def test_an_old_api_key_brings_nothing_back(connection):
    """It does not end its successor either: a program was started with an old environment."""
    for secret in ("first", "second", "third"):
        await bootstrap_key.ensure(connection, secret)
    for secret in ("first", "second", "first"):
        assert not await bootstrap_key.ensure(connection, secret)
        assert await lineage_of(connection, secret) is None
        assert await lineage_of(connection, "third") is not None


async def test_a_revoked_bootstrap_key_stays_revoked(connection):
    await bootstrap_key.ensure(connection, "first")
    caller = await callers.find(connection, "first")
    assert caller is not None
    assert await api_keys.revoke(connection, caller.key_id, BY)
    assert not await bootstrap_key.ensure(connection, "first")
    assert await callers.find(connection, "first") is None
    assert await bootstrap_key.ensure(connection, "second")
    assert not await bootstrap_key.ensure(connection, "first")
    assert await lineage_of(connection, "second") is not None


async def expires_at(connection, key_id):
    return next(row.expires_at for row in await api_keys.list_all(connection) if row.key_id == key_id)


async def made(connection, role=Role.NODE, **options):
    return (await api_keys.create(connection, NewKey(role, "x", **options), BY)).key_id


async def rotated(connection, key_id, overlap_s=60.0):
    return (await api_keys.rotate(connection, key_id, overlap_s, BY))[0].key_id


async def test_a_successor_lives_as_long_as_its_predecessor_was_meant_to(connection):
    first = await made(connection)
    second = await rotated(connection, first)
    third = await rotated(connection, second)
    assert await expires_at(connection, third) is None
    for ended in (first, second):
        assert await expires_at(connection, ended) - datetime.now(UTC) < timedelta(seconds=70)
    limited = await made(connection, expires_at=datetime.now(UTC) + timedelta(days=30))
    last = await rotated(connection, await rotated(connection, limited, 0))
    left = await expires_at(connection, last) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left < timedelta(days=30, hours=1)


async def test_a_key_is_rotated_once(connection):
    """Where its successor was lost it may be once more, and the next one lives as long as the lost one was meant to."""
    first = await made(connection)
    second = await rotated(connection, first)
    with pytest.raises(KeyRefused, match=second):
        await rotated(connection, first)
    await api_keys.revoke(connection, second, BY)
    third = await rotated(connection, first)
    assert await expires_at(connection, third) is None
    with pytest.raises(KeyRefused, match=third):
        await rotated(connection, first)


@pytest.mark.parametrize("end", ["revoked_at = clock_timestamp()", "expires_at = clock_timestamp()"])
async def test_a_key_that_has_ended_is_not_rotated(connection, end):
    key_id = await made(connection)
    await connection.execute(f"UPDATE api_keys SET {end} WHERE key_id = '{key_id}'")
    with pytest.raises(KeyRefused, match="make a new key"):
        await rotated(connection, key_id)


async def test_all_keys_made_before_a_time_are_revoked(connection):
    await bootstrap_key.ensure(connection, "the bootstrap key")
    (bootstrap,) = [row.key_id for row in await api_keys.list_all(connection) if row.state == "live"]
    old, spared, new = [await made(connection) for _ in range(3)]
    backdated = "UPDATE api_keys SET created_at = created_at - interval '2 h' WHERE key_id = ANY(%(ids)s)"
    await connection.execute(backdated, {"ids": [old, spared, bootstrap]})
    with pytest.raises(KeyRefused, match="key_wrong"):
        await api_keys.revoke_before(connection, None, BY, spared=[spared, "key_wrong"])
    assert await api_keys.revoke_before(connection, None, BY, age_s=3 * 3600) == []
    found = await api_keys.revoke_before(connection, None, BY, age_s=3600, spared=[spared])
    assert {row.key_id for row in found} == {old, bootstrap}
    states = {row.key_id: row.state for row in await api_keys.list_all(connection)}
    assert [states[one] for one in (old, bootstrap, spared, new)] == ["revoked", "revoked", "live", "live"]
    found = await api_keys.revoke_before(connection, datetime.now(UTC) + timedelta(minutes=1), BY)
    assert {row.key_id for row in found} == {spared, new}
    assert not await bootstrap_key.ensure(connection, "the bootstrap key")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (NewKey(Role.ADMIN, "bootstrap"), "bootstrap"),
        (NewKey(Role.NODE, "x", acts_for_others=True), "user"),
        (NewKey(Role.USER, "x", datetime.now(UTC)), "past"),
    ],
)
async def test_what_can_t_be_made(connection, key, says):
    with pytest.raises(KeyRefused, match=says):
        await api_keys.create(connection, key, BY)


async def test_the_bootstrap_key_is_rotated_by_its_setting_alone(connection):
    await bootstrap_key.ensure(connection, "first")
    caller = await callers.find(connection, "first")
    assert caller is not None
    with pytest.raises(KeyRefused, match="API_KEY"):
        await api_keys.rotate(connection, caller.key_id, 0, BY)


async def test_another_key_is_not_raised_to_an_administrator_s(connection):
    made = await api_keys.create(connection, NewKey(Role.USER, "u"), BY)
    assert not await bootstrap_key.ensure(connection, made.secret)
    caller = await callers.find(connection, made.secret)
    assert caller is not None
    assert caller.role is Role.USER


async def test_keys_made_while_the_clock_was_ahead_are_revoked_with_all_others(connection):
    ahead = await made(connection)
    await connection.execute("UPDATE api_keys SET created_at = created_at + interval '2 h'")
    assert [row.key_id for row in await api_keys.revoke_before(connection, None, BY)] == [ahead]


async def test_keys_made_while_the_clock_was_ahead_are_rotated_as_others_are(connection):
    first = await made(connection, expires_at=datetime.now(UTC) + timedelta(hours=1))
    second = await rotated(connection, first, 3600)
    await connection.execute(
        "UPDATE api_keys SET created_at = created_at + interval '2 h', expires_at = expires_at + interval '2 h'"
    )
    third = await rotated(connection, second)
    with pytest.raises(KeyRefused, match=third):
        await rotated(connection, second)
    with pytest.raises(KeyRefused, match=third):
        await rotated(connection, first)
    left = await expires_at(connection, await rotated(connection, third)) - datetime.now(UTC)
    assert timedelta(minutes=59) < left < timedelta(minutes=61)


@pytest.mark.parametrize(
    "grants",
    ['{"maxPriority": 5, "fromALaterVersion": 1}', '{"fromALaterVersion": null}'],
)
async def test_a_key_with_an_unknown_grant_opens_nothing_and_shuts_no_other_out(connection, caplog, grants):
    one, other = [await api_keys.create(connection, NewKey(Role.USER, "u"), BY) for _ in range(2)]
    values = {"lineage": one.key_id, "grants": grants}
    await connection.execute("INSERT INTO key_grants VALUES (%(lineage)s, CAST(%(grants)s AS json))", values)
    hashes = [callers.hash_key(made.secret) for made in (one, other)]
    found = await callers.find_all(connection, hashes)
    assert [caller.key_id for caller in found.values()] == [other.key_id]
    assert one.key_id in caplog.text
    assert one.secret not in caplog.text
