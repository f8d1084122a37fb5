"""Telling workflows that their tasks were ended from outside, where the notification after the commit was lost."""

from __future__ import annotations

import asyncio

from infra.db.session import Database
from infra.db.tasks import outbox
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway

AT_ONCE = 200
"""Workflows told in one turn: each costs the server a workflow task."""


async def tell_ended_tasks(database: Database, temporal: TemporalGateway) -> None:
    """Tell the oldest of them. A workflow that has closed already is not affected."""
    task_ids = await database.run(lambda c: outbox.untold_ends(c, AT_ONCE))
    told = await asyncio.gather(*(_tell(temporal, task_id) for task_id in task_ids))
    await database.run(lambda c: outbox.clear_ends(c, [one for one in told if one]))


async def _tell(temporal: TemporalGateway, task_id: str) -> str | None:
    try:
        await temporal.end(task_id)
    except NoSuchWorkflow:
        return task_id  # it ended before its workflow was started, which tells it in that case
    except TemporalAway:
        return None
    return task_id
