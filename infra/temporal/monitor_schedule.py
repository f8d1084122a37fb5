"""The schedule that runs the monitor."""

from __future__ import annotations

from datetime import timedelta

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
)

from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.reachability import CALL
from workflows.monitor import MonitorWorkflow

MONITOR = "monitor"
"""The id of the schedule and of its workflows."""


async def register(client: Client, task_queue: str, interval_s: float) -> None:
    """Make the schedule, or update it: the settings may have changed. Raises RPCError."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(MonitorWorkflow.run, id=MONITOR, task_queue=task_queue),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=interval_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(MONITOR, schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(MONITOR).update(lambda _: ScheduleUpdate(schedule))


async def trigger(temporal: TemporalGateway) -> None:
    """Run the monitor now, after a run that is in progress. Raises TemporalAway, also before `register`."""
    handle = temporal.client.get_schedule_handle(MONITOR)
    try:
        async with temporal.reaching():
            await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE, rpc_timeout=CALL)
    except NoSuchWorkflow as error:
        raise TemporalAway("the monitor is not set up yet") from error
