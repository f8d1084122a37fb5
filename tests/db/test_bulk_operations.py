"""Bulk operations page by page: what one row, one caller or one key does to the others (ADR 0041)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from fastapi import BackgroundTasks
from temporalio.testing import ActivityEnvironment

from activities.operations import OperationSteps
from api.routes import operations as routes
from api.schemas.operations import BulkCancel
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.db.tasks import operations
from infra.db.tasks.filters import TaskFilter
from infra.db.tasks.operations import Operation
from infra.db.transactions import begin_operation, retry_task
from infra.db.transactions.begin_operation import MOST_RUNNING
from infra.settings import Settings
from tests.conftest import eventually
from tests.db import rows
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from tests.db.rows import CREATOR, NOW
from tests.db.sessions import Sessions
from workers.leader import operations as leader
from workflows.domain.errors import IdempotencyConflict, TooManyOperations
from workflows.domain.operation import OperationKind, OperationState
from workflows.messages import OperationInput, OperationProgress

ALL = TaskFilter(app="a")
LAST = 2**31 - 1
"""A number of events after which the task's next one cannot be written."""


@pytest.fixture
async def empty(engine: Sessions) -> AsyncIterator[None]:
    """No tasks and no operations, before and after."""
    async with engine.begin() as session:
        await session.execute(rows.EMPTY)
    yield
    async with engine.begin() as session:
        await session.execute(rows.EMPTY)
        await session.execute("DELETE FROM api_keys WHERE lineage = 'k'")


async def add(database: Database, *tasks: dict[str, Any]) -> None:
    for number, columns in enumerate(tasks):
        await database.run(lambda c, n=number, more=columns: rows.task(c, f"t{n}", **more))  # type: ignore[misc]


async def begin(
    database: Database | Life, kind: OperationKind, operation_id: str = "op_1", key: str | None = None
) -> Operation:
    return await database.run(
        lambda c: begin_operation.begin(
            c, CREATOR, operation_id, kind, ALL, reason=None, idempotency_key=key, request_hash="h"
        )
    )


async def page(database: Database, operation_id: str = "op_1") -> OperationProgress:
    steps = OperationSteps(database, AsyncMock(away=False), Forecast(database), Settings())
    return await ActivityEnvironment().run(steps.work_off_page, OperationInput(operation_id))


async def test_a_waiting_task_that_cannot_be_ended_counts_as_failed(empty: None, database: Database) -> None:
    waits = {"waiting_since": NOW}
    await add(database, waits, {**waits, "event_seq": LAST}, waits)
    assert (await begin(database, OperationKind.CANCEL)).matched == 3
    assert await page(database) == OperationProgress(OperationState.DONE, matched=3, done=2, failed=1)


async def test_a_task_that_cannot_be_retried_counts_as_failed(
    empty: None, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: Callable[..., Any] = retry_task.again

    def refuse_one(task_id: str, *rest: Any) -> Any:
        if task_id == "t1":
            raise RuntimeError("a bug")
        return again(task_id, *rest)

    monkeypatch.setattr(retry_task, "again", refuse_one)
    ended = {"status": "FAILED", "completed_at": NOW}
    await add(database, ended, ended, ended)
    assert (await begin(database, OperationKind.RETRY)).matched == 3
    assert await page(database) == OperationProgress(OperationState.DONE, matched=3, done=2, failed=1)


async def test_each_stalled_operation_has_its_turn(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier operations may stay as they are: their workflows run, and wait for a worker."""
    monkeypatch.setattr(leader, "AT_ONCE", 2)
    await rows.task(life.connection, "t")
    for operation_id in ("op_1", "op_2", "op_3"):
        await begin(life, OperationKind.CANCEL, operation_id)
    await life.do("UPDATE operations SET updated_at = clock_timestamp() - interval '1 min'")
    temporal = AsyncMock()
    stalled = leader.StalledOperations(OneConnection(life.connection), temporal)
    for _ in range(2):
        await stalled.start()
    assert [one.args[0] for one in temporal.start_operation.await_args_list] == ["op_1", "op_2", "op_3", "op_1"]


async def test_a_caller_has_few_operations_at_once(empty: None, database: Database) -> None:
    """However many are asked for at the same time; one that was there before is answered as before."""
    await add(database, {"waiting_since": NOW})
    first = await begin(database, OperationKind.CANCEL, "op_first", key="first")
    calls = [begin(database, OperationKind.CANCEL, f"op_{number}") for number in range(8)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found if not isinstance(one, Operation)] == [TooManyOperations] * (9 - MOST_RUNNING)
    assert await begin(database, OperationKind.CANCEL, "op_again", key="first") == first
    await page(database, "op_first")
    assert (await begin(database, OperationKind.CANCEL, "op_next")).state == OperationState.DONE


@pytest.fixture
async def nearly_full(empty: None, database: Database) -> None:
    """A task to cancel, and one operation fewer than a caller may have at once."""
    await add(database, {"waiting_since": NOW})
    for number in range(MOST_RUNNING - 1):
        await begin(database, OperationKind.CANCEL, f"op_{number}")


async def test_of_two_equal_requests_at_once_both_have_the_last_place(
    nearly_full: None, database: Database, engine: Sessions
) -> None:
    async with engine.connect() as one, engine.connect(autocommit=True) as third:
        first = await begin(Life(one), OperationKind.CANCEL, "op_first", key="key")
        second = asyncio.create_task(begin(database, OperationKind.CANCEL, "op_second", key="key"))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7110 AND NOT granted)"
        await eventually(lambda: third.one(bool, waits))
        await one.commit()
        assert await second == first


@pytest.mark.parametrize("request_hash", ["h", "other"])
async def test_a_request_counts_that_a_program_without_the_lock_commits_meanwhile(
    empty: None, database: Database, monkeypatch: pytest.MonkeyPatch, request_hash: str
) -> None:
    add_row = operations.add

    async def after_another(connection: Connection, operation: Operation) -> bool:
        earlier = replace(operation, operation_id="op_first", request_hash=request_hash)
        await database.run(lambda c: add_row(c, earlier))
        return await add_row(connection, operation)

    monkeypatch.setattr(operations, "add", after_another)
    second = begin(database, OperationKind.CANCEL, "op_second", key="key")
    if request_hash == "h":
        assert (await second).operation_id == "op_first"
    else:
        with pytest.raises(IdempotencyConflict):
            await second
    assert await database.run(lambda c: c.all(str, "SELECT action FROM audit_log")) == []


async def test_a_repetition_is_answered_as_before_when_its_tasks_are_forgotten(empty: None, database: Database) -> None:
    async def ask(*task_ids: str) -> Any:
        context: Any = MagicMock(database=database)
        body = BulkCancel.model_validate({"ids": list(task_ids)})
        answer = await routes.cancel_tasks(
            MagicMock(state=object()), context, CREATOR, BackgroundTasks(), body, idempotency_key="key"
        )
        return answer["data"]

    await add(database, {"waiting_since": NOW})
    first = await ask("t0")
    await database.run(lambda c: c.execute("DELETE FROM tasks"))
    assert await ask("t0") == first
    with pytest.raises(IdempotencyConflict):
        await ask("t0", "t1")


KEY = "INSERT INTO api_keys (key_id, key_hash, role, owner, lineage) VALUES (%(key)s, %(key)s, 'admin', 'test', 'k')"
REVOKE = "UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = 'test' WHERE key_id = %(key)s"


async def test_an_operation_ends_when_its_key_is_revoked(empty: None, database: Database) -> None:
    """It goes on while another key of the lineage is live. Tasks that it has not reached have failed."""
    await add(database, {"waiting_since": NOW})
    for statement, key in ((KEY, "old"), (KEY, "new"), (REVOKE, "old")):
        await database.run(lambda c, what=statement, which=key: c.execute(what, {"key": which}))  # type: ignore[misc]
    await begin(database, OperationKind.CANCEL)
    assert await page(database) == OperationProgress(OperationState.DONE, matched=1, done=1, failed=0)
    await database.run(lambda c: rows.task(c, "later", waiting_since=NOW))
    await begin(database, OperationKind.CANCEL, "op_2")
    await database.run(lambda c: c.execute(REVOKE, {"key": "new"}))
    assert await page(database, "op_2") == OperationProgress(OperationState.DONE, matched=1, done=0, failed=1)
