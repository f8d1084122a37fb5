"""Assigning unused slots: nothing is released on a node when its rest ends."""

from __future__ import annotations

from functools import partial

from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots import assign as slot_assign
from infra.db.transactions import node_state
from infra.temporal.gateway import TemporalGateway
from infra.temporal.notifications import Notifications


async def assign_unused_slots(database: Database, temporal: TemporalGateway) -> None:
    """Assign waiting tasks to nodes that have had a free slot for them for a second."""

    async def assign(gpu_id: str, connection: Connection) -> Notifications:
        return await node_state.put_to_work(connection, gpu_id)

    for gpu_id in await database.run(slot_assign.standing_free):
        await temporal.deliver(await database.run(partial(assign, gpu_id)))
