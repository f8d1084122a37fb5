"""Releasing slots that are held for too long: the node has not said that the process is gone."""

from __future__ import annotations

from functools import partial

from infra.db.session import Database
from infra.db.transactions import release_attempt
from infra.temporal.gateway import TemporalGateway


async def release_held_slots(database: Database, temporal: TemporalGateway) -> None:
    """Release attempts that were closed `HELD_S` ago, and hand their slots over."""
    for gpu_id in await database.run(release_attempt.with_overdue):
        await temporal.deliver(await database.run(partial(release_attempt.release_overdue, gpu_id=gpu_id)))
