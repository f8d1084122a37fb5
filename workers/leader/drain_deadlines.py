"""Handing back, at the deadline of a drain, what its node still runs."""

from __future__ import annotations

from functools import partial

from infra.db.nodes import drains
from infra.db.session import Database
from infra.db.transactions import node_state
from infra.temporal.gateway import TemporalGateway


async def hand_back_at_deadlines(database: Database, temporal: TemporalGateway) -> None:
    """Close the attempts on nodes whose drain is past its deadline; their tasks wait again."""
    for gpu_id in await database.run(drains.overdue):
        await temporal.deliver(await database.run(partial(node_state.hand_back, gpu_id=gpu_id)))
