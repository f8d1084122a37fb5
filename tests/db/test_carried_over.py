"""Data from before a migration is still true after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic import command
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.data_dir import embedded
from infra.db.access import bootstrap_key, callers
from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.schema.upgrade import alembic_config, create_engine
from infra.db.session import USUAL
from workers.stack.stack import Stack

NAME = "carried_over"
BEFORE = [
    "INSERT INTO api_keys (key_id, key_hash, role, owner) VALUES"
    f" ('key_admin', '{callers.hash_key('admin')}', 'admin', 'bootstrap'),"
    f" ('key_node', '{callers.hash_key('node')}', 'node', 'n')",
    *(
        "INSERT INTO gpus (gpu_id, epoch, status, hostname, ip, port, task_types, priority_queue, version,"
        f" max_concurrent_tasks, metadata, key_id) VALUES ('{gpu_id}', 1, 'ACTIVE', 'h', '::1', 1, '{{1}}', 'NORMAL',"
        f" '1', 1, '{{}}', {key_id})"
        for gpu_id, key_id in [("of_admin", "'key_admin'"), ("of_node", "'key_node'"), ("of_nobody", "NULL")]
    ),
    *(
        "INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, queue_rank, payload,"
        " timeout_ms, max_retries, gpu_id, key_id, idempotency_key, request_hash) VALUES"
        f" ('t{number}', 1, '{status}', 'u', 'a', 1, 0, 0, '{{}}', 1, 0, {gpu_id}, 'key_admin', 'idem{number}', 'h')"
        for number, (status, gpu_id) in enumerate([("QUEUED", "NULL"), ("PROCESSING", "'g'"), ("PROCESSING", "'g'")])
    ),
]


@pytest.fixture
async def before(stack: Stack) -> AsyncIterator[AsyncConnection]:
    """A database of the fourth version, with some rows."""
    administration = create_engine(stack.services.database_url).execution_options(isolation_level="AUTOCOMMIT")
    async with administration.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
    own = create_engine(embedded.postgres_url(stack.data_dir, NAME))
    async with own.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync), "0004"))
        for statement in BEFORE:
            await connection.exec_driver_sql(statement)
        yield connection
    await own.dispose()
    async with administration.connect() as connection:
        await connection.exec_driver_sql(f"DROP DATABASE {NAME}")
    await administration.dispose()


async def native(connection: AsyncConnection) -> Connection:
    """The same, as our modules use it."""
    opened = (await connection.get_raw_connection()).driver_connection
    assert opened is not None
    return Connection(opened, USUAL)


async def test_keys_gpus_and_counts_are_carried_over(before):
    await before.run_sync(lambda sync: command.upgrade(alembic_config(sync), "0013"))  # what `keys` reads
    caller = await callers.find(await native(before), "node")
    assert caller is not None
    found = caller.key_id, caller.lineage, caller.role, caller.acts_for_others
    assert found == ("key_node", "key_node", "node", False)
    rows = await before.exec_driver_sql("SELECT gpu_id, lineage FROM gpus")
    assert {row.gpu_id: row.lineage for row in rows} == {"of_admin": None, "of_node": "key_node", "of_nobody": None}
    rows = await before.exec_driver_sql("SELECT lineage, idempotency_key FROM tasks ORDER BY task_id")
    assert [tuple(row) for row in rows] == [("key_admin", f"idem{number}") for number in range(3)]
    totals: list[tuple[dict[str, Any], int]] = [
        ({}, 3),
        ({"status": "QUEUED"}, 1),
        ({"gpu_id": "g"}, 2),
        ({"gpu_id": "g", "status": "QUEUED"}, 0),
        ({"gpu_id": "g", "task_type": 1, "status": "PROCESSING"}, 2),
    ]
    for filters, total in totals:
        for user, its_total in (("u", total), ("v", 0)):
            kinds = await counters.tasks_by_kind(await native(before), gpu_id=filters.get("gpu_id"), user_id=user)
            of = {name: filters.get(name) for name in ("status", "task_type")}
            assert counters.matching(kinds, **of) == its_total
    assert await bootstrap_key.ensure(await native(before), "another")
    assert await callers.find(await native(before), "admin") is None
    bootstrap = await callers.find(await native(before), "another")
    assert bootstrap is not None
    assert bootstrap.lineage == "key_admin"
