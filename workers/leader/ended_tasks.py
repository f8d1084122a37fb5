"""Telling workflows that their tasks were ended from outside, where the notification after the commit was lost."""

from __future__ import annotations

import asyncio

from infra.db.session import Database
from infra.db.tasks import outbox
from infra.db.tasks.outbox import UntoldEnd
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway

AT_ONCE = 200
"""Workflows told in one turn: each costs the server a workflow task."""


async def tell_ended_tasks(database: Database, temporal: TemporalGateway) -> None:
    """Tell the first of them. A workflow that has closed already is not affected."""
    ends = await database.run(lambda c: outbox.untold_ends(c, AT_ONCE))
    told = await asyncio.gather(*(_tell(temporal, one) for one in ends))
    await database.run(lambda c: outbox.clear_ends(c, [one for one in told if one]))


async def _tell(temporal: TemporalGateway, end: UntoldEnd) -> str | None:
    try:
        await temporal.end(end.task_id)
    except NoSuchWorkflow:
        return end.task_id  # it ended before its workflow was started, which tells it in that case
    except TemporalAway:
        return None
    return end.task_id
