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


class StalledOperations:
    """Starts them, some in each turn. It has no effect on a workflow that runs."""

    def __init__(self, database: Database, temporal: TemporalGateway) -> None:
        self._database = database
        self._temporal = temporal
        self._last = ""

    async def start(self) -> None:
        """Go on after the last one that was tried."""
        for operation_id in await self._database.single(lambda c: operations.stalled(c, self._last, AT_ONCE)):
            try:
                await self._temporal.start_operation(operation_id)
            except TemporalAway as error:
                log.warning("%s will be started later: %s", operation_id, error)
                return
            self._last = operation_id
