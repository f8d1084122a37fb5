"""The leader's turn: its jobs, in the order in which they run (docs/background-jobs.md)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from infra.db.connection import Connection
from infra.db.nodes import drains, liveness
from infra.db.one_by_one import one_by_one
from infra.db.ops import alert_ends, counters, instances, measures
from infra.db.queue import aging
from infra.db.session import ANSWER_S, STATEMENT_S, Database
from infra.db.slots import free_nodes
from infra.db.transactions import node_state, release_attempt
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows
from workers.leader.alert_messages import AlertMessages
from workers.leader.ended_tasks import EndedTasks
from workers.leader.late_monitor import LateMonitor
from workers.leader.limits import end_at_limits
from workers.leader.operations import StalledOperations
from workers.leader.silent_nodes import SilentNodes
from workers.leader.stuck_workflows import StuckWorkflows
from workers.leader.webhooks import attend_webhooks
from workflows.notifications import Notifications

Job = Callable[[], Awaitable[object]]
NodeChange = Callable[..., Awaitable[Notifications]]
"""Changes the node of `gpu_id`."""

log = logging.getLogger(__name__)

FORGOTTEN_AFTER = 8
"""Instance timeouts after which a silent instance is no longer shown, nor counted against the cluster's health."""
PROMOTED_AT_ONCE = 200
"""Tasks in a turn."""
RECORDED_AT_ONCE = 5_000
"""Attempts in a turn. There are that many only after programs of an earlier version have run."""


class Leader:
    """Runs the jobs one after the other."""

    def __init__(self, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        workflows = OpenWorkflows(temporal, settings)
        self._database = database
        self._temporal = temporal
        self._stuck_workflows = StuckWorkflows(database, temporal, workflows)
        self._messages = AlertMessages(database, settings.notify)
        self._jobs: tuple[Job, ...] = (
            partial(end_at_limits, database, temporal),
            partial(self._on_nodes, drains.overdue, node_state.hand_back),
            self._in_database(instances.purge, age_s=settings.instance_timeout * FORGOTTEN_AFTER),
            self._in_database(liveness.set_right),
            self._in_database(aging.promote, aging_s=settings.aging, limit=PROMOTED_AT_ONCE),
            self._in_database(release_attempt.record, limit=RECORDED_AT_ONCE),  # free by the clock already
            partial(self._on_nodes, free_nodes.with_unused_slots, node_state.assign_unused_slots),
            EndedTasks(database, temporal, workflows).notify,
            StalledOperations(database, temporal).start,
            partial(attend_webhooks, database, temporal),
            SilentNodes(database, temporal, settings).find,
            LateMonitor(database, temporal, settings).find,
            self._stuck_workflows.find,
            self._in_database(alert_ends.end, instance_timeout_s=settings.instance_timeout),
            self._messages.send,
            self._in_database(measures.add_up),
            self._in_database(counters.fold, within_s=STATEMENT_S),  # may take long, so it comes last
        )

    async def turn(self) -> None:
        """Run each job once. One that fails is logged, and the others run. Raises if the database is away."""
        await one_by_one(lambda job: job(), self._jobs, _job_failed)

    def stop(self) -> None:
        """Cancel what a job does in the background."""
        self._stuck_workflows.stop()
        self._messages.stop()

    def _in_database(
        self, work: Callable[..., Awaitable[object]], *, within_s: float = ANSWER_S, **values: float
    ) -> Job:
        """A job that is one transaction."""
        return partial(self._database.run, partial(work, **values), within_s=within_s)

    async def _on_nodes(self, find: Callable[[Connection], Awaitable[Iterable[str]]], change: NodeChange) -> None:
        """Find nodes, and change each in a transaction of its own."""

        async def change_one(gpu_id: str) -> None:
            await self._temporal.deliver(await self._database.run(partial(change, gpu_id=gpu_id)))

        await one_by_one(change_one, await self._database.single(find), _node_failed)


def _job_failed(_: Job, error: Exception) -> None:
    log.error("a job of the leader failed", exc_info=error)


def _node_failed(gpu_id: str, error: Exception) -> None:
    log.error("a job of the leader failed for node %s", gpu_id, exc_info=error)
