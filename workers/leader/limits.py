"""Ending tasks at their own limits: those that have not started when they expire, and those past their deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from infra.db.session import Database
from infra.db.tasks import limits
from infra.db.tasks.limits import Due
from infra.db.transactions import end_at_limit
from infra.db.transactions.end_at_limit import MESSAGES
from infra.temporal.gateway import TemporalGateway
from infra.temporal.notifications import Notifications
from workflows.domain.task import EndReason

T = TypeVar("T")

log = logging.getLogger(__name__)

ACTOR = "limits"
BATCH = 500
"""Tasks that one statement finds, and one transaction ends."""
BATCHES = 20
"""The most in a turn, so that the other jobs have theirs."""
AT_ONCE = 8
"""Transactions at the same time, of tasks that do not wait for a slot."""
NOTIFIED = 50
"""Workflows notified directly in a turn; the rest follow from `outbox_ends`, at its rate."""


async def end_at_limits(database: Database, temporal: TemporalGateway) -> None:
    """End what is past its limit now."""
    ended: list[str] = []
    for _ in range(BATCHES):
        due = await database.run(lambda c: limits.due(c, BATCH))
        done = await _end(database, due)
        ended += done
        if not done:
            break
    await temporal.deliver(Notifications(ended=ended[:NOTIFIED]))


async def _end(database: Database, due: Sequence[Due]) -> list[str]:
    ended: list[str] = []
    for reason in MESSAGES:
        waiting = [one.task_id for one in due if one.waits and one.reason == reason]
        for some in _parts(waiting, BATCH):
            ended += await database.run(partial(end_at_limit.end_waiting, task_ids=some, reason=reason, actor=ACTOR))
    for others in _parts([one for one in due if not one.waits], AT_ONCE):
        done = await asyncio.gather(*(_end_one(database, one) for one in others))
        ended += [one.task_id for one, has_ended in zip(others, done, strict=True) if has_ended]
    return ended


async def _end_one(database: Database, one: Due) -> bool:
    """End one that does not wait. A row that cannot be ended holds up no other one."""
    work = partial(end_at_limit.end, task_id=one.task_id, reason=EndReason(one.reason), actor=ACTOR)
    try:
        ended = await database.run(work)
    except Exception as error:  # noqa: BLE001
        log.warning("could not end %s at its limit: %s", one.task_id, error)
        return False
    return ended.changed


def _parts(items: list[T], size: int) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
