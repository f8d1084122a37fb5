"""The schedules that run the monitor and the retention."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.reachability import CALL
from workflows.monitor import MonitorWorkflow
from workflows.retention import RetentionWorkflow

MONITOR = "monitor"
"""The id of the monitor's schedule and of its workflows."""
RETENTION = "retention"
"""The id of the retention's schedule and of its workflows."""
RETENTION_INTERVAL_S = 600.0


async def register(client: Client, task_queue: str, monitor_interval_s: float) -> None:
    """Make the schedules, or update them, since the settings may have changed; a pause stays. Raises RPCError."""
    await _register(client, MONITOR, MonitorWorkflow, task_queue, monitor_interval_s)
    await _register(client, RETENTION, RetentionWorkflow, task_queue, RETENTION_INTERVAL_S)


async def _register(client: Client, name: str, workflow: Any, task_queue: str, interval_s: float) -> None:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(workflow.run, id=name, task_queue=task_queue),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=interval_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(name, schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(name).update(lambda known: _updated(known, schedule))


def _updated(known: ScheduleUpdateInput, schedule: Schedule) -> ScheduleUpdate:
    return ScheduleUpdate(replace(schedule, state=known.description.schedule.state))


async def trigger_monitor(temporal: TemporalGateway) -> None:
    """Run the monitor now, after a run that is in progress. Raises TemporalAway, also before `register`."""
    handle = temporal.client.get_schedule_handle(MONITOR)
    try:
        async with temporal.reaching():
            await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE, rpc_timeout=CALL)
    except NoSuchWorkflow as error:
        raise TemporalAway("the monitor is not set up yet") from error
