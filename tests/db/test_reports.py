"""A report that is heard while somebody else settles the attempt it means."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from api import reports
from api.reports import Heard, Report, Said
from infra.db import attempts, type_locks
from infra.db.connection import Connection
from infra.db.engine import Database
from tests.conftest import eventually
from tests.db import rows
from workflows.domain.attempt import Outcome
from workflows.domain.errors import LateReport
from workflows.domain.task import TaskStatus

FIRST_TYPE, SECOND_TYPE = 8101, 8102
WAITS_FOR_A_ROW = text(
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype IN ('transactionid', 'tuple') AND NOT granted AND datname = current_database()"
)


async def says_result(connection: Connection, report: Report) -> Heard:
    return await reports.result(connection, report, "{}")


async def says_failed(connection: Connection, report: Report) -> Heard:
    return await reports.status(connection, report, Said(TaskStatus.FAILED))


async def says_processing(connection: Connection, report: Report) -> Heard:
    return await reports.status(connection, report, Said(TaskStatus.PROCESSING, progress=50))


@pytest.mark.parametrize("says", [says_result, says_failed, says_processing])
async def test_it_is_late_and_waits_for_no_release(database: Database, says) -> None:
    """The node has a new type meanwhile, whose lock somebody holds who waits for the node's row in turn."""
    task_id = f"reported-{says.__name__}"
    settled, held, committed, answered = (asyncio.Event() for _ in range(4))

    async def prepare(connection: Connection) -> None:
        await rows.node(connection, task_id, task_types=[FIRST_TYPE])
        await rows.task(connection, task_id, task_type=FIRST_TYPE, attempts=1)
        await rows.attempt(connection, task_id, gpu_id=task_id)

    async def settle(connection: Connection) -> None:
        await attempts.settle(connection, task_id, 1, Outcome.TIMED_OUT, actor="test", strict_vip=False)
        types = {"types": [FIRST_TYPE, SECOND_TYPE], "gpu_id": task_id}
        await connection.execute(text("UPDATE gpus SET task_types = :types WHERE gpu_id = :gpu_id"), types)
        settled.set()
        await committed.wait()

    async def hold_second_type(connection: Connection) -> None:
        await type_locks.hold(connection, SECOND_TYPE)
        held.set()
        await answered.wait()

    async def waits() -> bool:
        return (await database.run(lambda c: c.execute(WAITS_FOR_A_ROW))).scalar_one() > 0

    await database.run(prepare)
    settling = asyncio.create_task(database.run(settle))
    await settled.wait()
    holding = asyncio.create_task(database.run(hold_second_type))
    await held.wait()
    report = Report(task_id, f"{task_id}-1", None, None, strict_vip=False)
    reporting = asyncio.create_task(database.run(lambda c: says(c, report)))
    try:
        await eventually(waits, within=5)
        committed.set()
        heard = await asyncio.wait_for(reporting, 4)
    finally:
        committed.set()
        answered.set()
        await asyncio.gather(settling, holding)
    assert isinstance(heard.refusal, LateReport)
    late = text("SELECT count(*) FROM late_reports WHERE task_id = :task_id")
    assert (await database.run(lambda c: c.execute(late, {"task_id": task_id}))).scalar_one() == 1
