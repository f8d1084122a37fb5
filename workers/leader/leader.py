"""The leader's turn: its jobs, in the order in which they run (docs/background-jobs.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from infra.db.session import Database
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows
from workers.leader.alert_ends import resolve_alerts
from workers.leader.alert_messages import AlertMessages
from workers.leader.correct_times import correct_times
from workers.leader.drain_deadlines import hand_back_at_deadlines
from workers.leader.ended_tasks import EndedTasks
from workers.leader.fold_counters import fold_counters
from workers.leader.forget_instances import forget_instances
from workers.leader.held_slots import record_free_slots
from workers.leader.late_monitor import LateMonitor
from workers.leader.limits import end_at_limits
from workers.leader.measures import add_up_measures
from workers.leader.operations import StalledOperations
from workers.leader.promotions import promote_waiting
from workers.leader.silent_nodes import SilentNodes
from workers.leader.stuck_workflows import StuckWorkflows
from workers.leader.unused_slots import assign_unused_slots
from workers.leader.webhooks import attend_webhooks

Job = Callable[[], Awaitable[None]]


class Leader:
    """Runs the jobs one after the other. If one fails the rest waits for the next turn."""

    def __init__(self, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        workflows = OpenWorkflows(temporal, settings)
        self._stuck_workflows = StuckWorkflows(database, temporal, workflows)
        self._messages = AlertMessages(database, settings.notify)
        self._jobs: tuple[Job, ...] = (
            partial(end_at_limits, database, temporal),
            partial(hand_back_at_deadlines, database, temporal),
            partial(fold_counters, database),
            partial(forget_instances, database, settings),
            partial(correct_times, database),
            partial(promote_waiting, database, settings),
            partial(record_free_slots, database),
            partial(assign_unused_slots, database, temporal),
            EndedTasks(database, temporal, workflows).notify,
            StalledOperations(database, temporal).start,
            partial(attend_webhooks, database, temporal),
            SilentNodes(database, temporal, settings).find,
            LateMonitor(database, temporal, settings).find,
            self._stuck_workflows.find,
            partial(resolve_alerts, database, settings),
            self._messages.send,
            partial(add_up_measures, database),
        )

    async def turn(self) -> None:
        """Run each job once."""
        for job in self._jobs:
            await job()

    def stop(self) -> None:
        """Cancel what a job does in the background."""
        self._stuck_workflows.stop()
        self._messages.stop()
