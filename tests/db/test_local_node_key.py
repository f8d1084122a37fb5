"""The key of the stack's own nodes: one lineage, kept, and replaced when it is dead."""

from __future__ import annotations

import pytest

from infra.db.access import api_keys, callers
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import Actor
from infra.db.nodes import queries as node_queries
from infra.db.transactions import node_state
from workers.stack.node_key import ensure_node_key
from workflows.domain.errors import GpuOfAnotherKey
from workflows.domain.role import Role

BY = Actor(None, "tests", None)
IDS = {"ids": ["local_1", "theirs", "admins"]}


def node(lineage, gpu_id="local_1"):
    return node_queries.Registration(gpu_id, "h", None, "127.0.0.1", 9000, [1], "NORMAL", "1", 1, {}, None, lineage)


@pytest.fixture(autouse=True)
async def clean(database):
    """Other tests count what is there."""
    yield
    for table in ("gpu_beats", "gpus"):
        await database.run(lambda c, table=table: c.execute(f"DELETE FROM {table} WHERE gpu_id = ANY (%(ids)s)", IDS))


async def registers(database, lineage, gpu_id="local_1"):
    try:
        await database.run(lambda c: node_state.register(c, node(lineage, gpu_id)))
    except GpuOfAnotherKey:
        return False
    return True


async def test_it_is_kept_and_made_again_when_it_is_dead(engine, database, tmp_path):
    url, path = engine.url, tmp_path / "node_key"

    async def ensure():
        await ensure_node_key(url, path, ["local_1"])
        return await database.run(lambda c: callers.find(c, path.read_text().strip()))

    assert await registers(database, None)  # by an administrator's key, as the previous version did
    first = await ensure()
    assert (first.role, path.stat().st_mode & 0o777) == (Role.NODE, 0o600)
    assert await registers(database, first.lineage)
    assert await ensure() == first  # a restart

    await database.run(lambda c: api_keys.revoke(c, first.key_id, BY))
    second = await ensure()
    assert second.key_id != first.key_id
    assert await registers(database, second.lineage)

    path.unlink()
    third = await ensure()
    assert await registers(database, third.lineage)
    assert not await registers(database, second.lineage)  # the lost one is dead

    path.write_text("\xff no key\n", encoding="latin-1")
    fourth = await ensure()
    assert await registers(database, fourth.lineage)

    admin = await database.run(lambda c: api_keys.create(c, NewKey(Role.ADMIN, "x"), BY))
    path.write_text(admin.secret)
    assert (await ensure()).role is Role.NODE


async def test_nobody_elses_gpu_is_taken(engine, database, tmp_path):
    url = engine.url
    theirs = await database.run(lambda c: api_keys.create(c, NewKey(Role.NODE, "somebody"), BY))
    assert await registers(database, theirs.key_id, "theirs")
    assert await registers(database, None, "admins")
    await ensure_node_key(url, tmp_path / "node_key", ["theirs"])
    own = await database.run(lambda c: callers.find(c, (tmp_path / "node_key").read_text().strip()))
    assert not await registers(database, own.lineage, "theirs")
    assert not await registers(database, own.lineage, "admins")


async def test_another_data_directory_leaves_a_key_alone(engine, database, tmp_path):
    url = engine.url
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        await ensure_node_key(url, tmp_path / name / "node_key", [])
    for name in ("one", "other"):
        secret = (tmp_path / name / "node_key").read_text().strip()
        assert await database.run(lambda c, secret=secret: callers.find(c, secret))
