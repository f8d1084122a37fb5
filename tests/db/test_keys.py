"""The bootstrap key: it follows the setting API_KEY, and nothing that was revoked comes back by it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.db import keys
from infra.db.audit import Actor
from infra.db.keys import KeyRefused, NewKey
from workflows.domain.role import Role

BY = Actor(None, "tests", None)


async def lineage_of(connection, secret):
    """Of the key with this secret, where it opens the API."""
    found = await keys.find(connection, secret)
    return None if found is None else found.lineage


async def test_a_changed_api_key_ends_the_old_one(connection):
    """And has what was the old one's; the setting may go back."""
    assert await keys.ensure_bootstrap(connection, "first")
    lineage = await lineage_of(connection, "first")
    assert await keys.ensure_bootstrap(connection, "second")
    assert await lineage_of(connection, "first") is None
    assert await lineage_of(connection, "second") == lineage is not None
    assert await keys.ensure_bootstrap(connection, "first")
    assert await keys.ensure_bootstrap(connection, "first")
    assert await lineage_of(connection, "first") == lineage
    assert await lineage_of(connection, "second") is None


async def test_a_revoked_bootstrap_key_stays_revoked(connection):
    await keys.ensure_bootstrap(connection, "first")
    caller = await keys.find(connection, "first")
    assert await keys.revoke(connection, caller.key_id, BY)
    assert not await keys.ensure_bootstrap(connection, "first")
    assert await keys.find(connection, "first") is None
    await keys.ensure_bootstrap(connection, "second")
    assert not await keys.ensure_bootstrap(connection, "first")


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
        await keys.create(connection, key, BY)


async def test_the_bootstrap_key_is_rotated_by_its_setting_alone(connection):
    await keys.ensure_bootstrap(connection, "first")
    caller = await keys.find(connection, "first")
    with pytest.raises(KeyRefused, match="API_KEY"):
        await keys.rotate(connection, caller.key_id, 0, BY)


async def test_another_key_is_not_raised_to_an_administrator_s(connection):
    made = await keys.create(connection, NewKey(Role.USER, "u"), BY)
    assert not await keys.ensure_bootstrap(connection, made.secret)
    assert (await keys.find(connection, made.secret)).role is Role.USER
