"""Assigning unused slots: nothing is released on a node when its rest ends."""

from __future__ import annotations

from functools import partial

from infra.db import gpus
from infra.db.connection import Connection
from infra.db.engine import Database
from infra.db.notifications import Notifications
from infra.temporal.gateway import TemporalGateway


async def assign_unused_slots(database: Database, temporal: TemporalGateway) -> None:
    """Assign waiting tasks to nodes that have had a free slot for them for a second."""

    async def assign(gpu_id: str, connection: Connection) -> Notifications:
        return await gpus.put_to_work(connection, gpu_id)

    for gpu_id in await database.run(gpus.standing_free):
        await temporal.deliver(await database.run(partial(assign, gpu_id)))
