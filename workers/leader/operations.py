"""Starting the workflows of bulk operations that make no progress: their start was lost, or a person has ended them."""

from __future__ import annotations

import logging

from infra.db.session import Database
from infra.db.tasks import operations
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway

log = logging.getLogger(__name__)

AT_ONCE = 20
"""Operations in one turn."""


async def start_stalled_operations(database: Database, temporal: TemporalGateway) -> None:
    """Start them. It has no effect on a workflow that runs."""
    for operation_id in await database.run(lambda c: operations.stalled(c, AT_ONCE)):
        try:
            await temporal.start_operation(operation_id)
        except TemporalAway as error:
            log.warning("%s will be started later: %s", operation_id, error)
            return
