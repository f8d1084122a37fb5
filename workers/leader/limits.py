"""Ending tasks at their own limits: those that have not started when they expire, and those past their deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from itertools import takewhile

from infra.db.one_by_one import one_by_one
from infra.db.session import Database, is_lost
from infra.db.tasks import limits
from infra.db.tasks.limits import TaskPastLimit
from infra.db.transactions import end_at_limit
from infra.db.transactions.end_at_limit import MESSAGES
from infra.temporal.gateway import TemporalGateway
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import EndReason
from workflows.notifications import Notifications

log = logging.getLogger(__name__)

BATCH = 500
"""Tasks of either limit that one statement finds, and one transaction ends."""
TURN_S = 1.0
"""Seconds after which a turn begins no further work, so that the other jobs have theirs."""
AT_ONCE = 8
"""Transactions at the same time, of tasks that do not wait for a slot."""
NOTIFIED = 50
"""Workflows notified directly in a turn; the rest follow from `outbox_ends`, at its rate."""


async def end_at_limits(database: Database, temporal: TemporalGateway, *, turn_s: float = TURN_S) -> None:
    """End what is past its limit now, as much as a turn allows."""
    turn = _Turn(database, time.monotonic() + turn_s)
    while not turn.is_over and await turn.end(await database.single(lambda c: limits.due(c, BATCH))):
        pass
    ended = turn.ended_on_nodes + turn.ended_waiting  # a node stops its work only when the workflow has been notified
    await temporal.deliver(Notifications(ended=ended[:NOTIFIED]))


class _Turn:
    """The tasks that one turn has ended, until its time is over."""

    def __init__(self, database: Database, until: float) -> None:
        self.ended_on_nodes: list[str] = []
        self.ended_waiting: list[str] = []
        self._database = database
        self._until = until

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    async def end(self, due: Sequence[TaskPastLimit]) -> bool:
        """End these, those that wait for a slot first, many at a time. Returns whether any has ended."""
        before = len(self.ended_waiting) + len(self.ended_on_nodes)
        for reason in MESSAGES:
            waiting = [one.task_id for one in due if one.waits and one.reason == reason]
            if waiting:
                self.ended_waiting += await self._end_waiting(waiting, reason)
        self.ended_on_nodes += await self._end_each([one for one in due if not one.waits])
        return len(self.ended_waiting) + len(self.ended_on_nodes) > before

    async def _end_waiting(self, task_ids: list[str], reason: EndReason) -> list[str]:
        """End them in one statement; one by one if that fails, in case a single row is the cause."""
        work = partial(end_at_limit.end_waiting, task_ids=task_ids, reason=reason, actor=SystemActor.LIMITS)
        try:
            return await self._database.run(work)
        except Exception as error:
            if is_lost(error):
                raise
            log.warning("could not end %s tasks at once: %s", len(task_ids), error)
        return await self._end_each([TaskPastLimit(task_id, True, reason) for task_id in task_ids])

    async def _end_each(self, due: list[TaskPastLimit]) -> list[str]:
        """End them one by one while there is time. Returns those that have ended."""
        in_time = takewhile(lambda _: not self.is_over, due)
        done = await one_by_one(self._end_one, in_time, _not_ended, at_once=AT_ONCE)
        return [one.task_id for one, has_ended in done if has_ended]

    async def _end_one(self, one: TaskPastLimit) -> bool:
        work = partial(end_at_limit.end, task_id=one.task_id, reason=EndReason(one.reason), actor=SystemActor.LIMITS)
        return (await self._database.run(work)).changed


def _not_ended(one: TaskPastLimit, error: Exception) -> None:
    log.warning("could not end %s at its limit: %s", one.task_id, error)
