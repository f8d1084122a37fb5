"""Assigning unused slots: nothing is released on a node when its rest ends."""

from __future__ import annotations

from functools import partial

from infra.db.session import Database
from infra.db.slots import assign
from infra.db.transactions import node_state
from infra.temporal.gateway import TemporalGateway


async def assign_unused_slots(database: Database, temporal: TemporalGateway) -> None:
    """Assign waiting tasks to nodes that have had a free slot for them for a second."""
    for gpu_id in await database.run(assign.with_unused_slots):
        await temporal.deliver(await database.run(partial(node_state.assign_unused_slots, gpu_id=gpu_id)))
