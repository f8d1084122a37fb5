"""Starting the workflows of bulk operations that make no progress: their start was lost, or a person has ended them."""

from __future__ import annotations

import logging

from infra.db.one_by_one import one_by_one
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
        found = await self._database.single(lambda c: operations.stalled(c, self._last, AT_ONCE))
        try:
            await one_by_one(self._start, found, _not_started, is_away=lambda error: isinstance(error, TemporalAway))
        except TemporalAway as error:
            log.warning("operations will be started later: %s", error)

    async def _start(self, operation_id: str) -> None:
        await self._temporal.start_operation(operation_id)
        self._last = operation_id


def _not_started(operation_id: str, error: Exception) -> None:
    log.error("%s could not be started", operation_id, exc_info=error)
