"""`gpu-orchestrator worker`: one Temporal worker process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import uvloop
from temporalio.worker import (
    PollerBehaviorAutoscaling,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.dispatch import Dispatch
from activities.monitor import MonitorSteps
from activities.nodes import NodeSteps
from activities.operations import OperationSteps
from activities.reconciler import Reconciler
from activities.retention import RetentionSteps
from activities.short_work import ShortWork
from activities.tasks import TaskSteps
from activities.webhooks import WebhookSteps
from infra import open_files, telemetry
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.nodes.address_policy import AllowList
from infra.nodes.client import NodeClient
from infra.nodes.own_services import OwnServices
from infra.resilience.retry import until_there
from infra.settings import Settings, load
from infra.temporal import schedules, search_attributes
from infra.temporal.access import connect, is_away
from infra.temporal.gateway import TemporalGateway
from infra.webhooks import tries
from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.sender import Sender
from workers.serving import garbage, outage_logs
from workers.serving.instance import Instance
from workers.serving.schema import open_database
from workflows.gpu_health import GpuHealthWorkflow
from workflows.monitor import MonitorWorkflow
from workflows.operation import OperationWorkflow
from workflows.retention import RetentionWorkflow
from workflows.task import TaskWorkflow
from workflows.webhook import QUEUE, WebhookWorkflow

log = logging.getLogger(__name__)

WORKFLOWS = [
    TaskWorkflow,
    GpuHealthWorkflow,
    MonitorWorkflow,
    RetentionWorkflow,
    OperationWorkflow,
    WebhookWorkflow,
]
FILES = 8192
"""Files that the worker opens at most: a connection for each of some thousand nodes, and webhooks' tries."""
PASSED_THROUGH = ("workflows.domain", "workflows.messages", "workflows.ports", "workflows.policies")
"""Our own pure modules: the sandbox need not load them again for every workflow."""


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, then let running activities end."""
    settings = load("database_url", "temporal_address")
    telemetry.log_to_stderr(settings.log_level)
    outage_logs.install()
    with telemetry.exported("gpu-orchestrator-worker"):
        uvloop.run(serve(settings))
    return 0


def workflow_runner(settings: Settings) -> WorkflowRunner:
    """The sandbox with our pure modules passed through, or none where the setting says so."""
    if not settings.workflow_sandbox:
        return UnsandboxedWorkflowRunner()
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))


async def set_up_temporal(settings: Settings) -> TemporalGateway:
    """Connect to Temporal, and register our search attributes and our schedules. Idempotent."""
    client = await connect(settings, lazy=False)
    await search_attributes.register(client)
    await schedules.register(client, settings.task_queue, settings.monitor_interval)
    return TemporalGateway(client, settings)


def activities(
    settings: Settings, database: Database, temporal: TemporalGateway, nodes: NodeClient
) -> list[Callable[..., Any]]:
    """The activities of all workflows but those of webhooks."""
    forecast = Forecast(database)
    tasks = TaskSteps(database, temporal, nodes)
    dispatch = Dispatch(database, temporal, nodes, ShortWork(forecast), settings)
    node_steps = NodeSteps(database, temporal, nodes, settings)
    monitor = MonitorSteps(database, Reconciler(database, temporal, nodes, settings), settings)
    return [
        tasks.select_slot,
        dispatch.dispatch,
        tasks.collect,
        tasks.stop_on_node,
        tasks.cancel_task,
        node_steps.attend_node,
        node_steps.confirm_attempts,
        node_steps.obey,
        monitor.reconcile,
        monitor.check_health,
        RetentionSteps(database, settings).forget,
        OperationSteps(database, temporal, forecast, settings).work_off_page,
    ]


async def serve(settings: Settings) -> None:
    """Assemble the worker and run it."""
    database = await open_database(settings)
    log.info("nodes report to %s", settings.base_url)
    own = OwnServices(settings)
    await own.refresh()
    nodes = NodeClient(AllowList.of_nodes(settings, own))
    temporal = await until_there("Temporal", lambda: set_up_temporal(settings), is_away)
    sender = receivers(settings, own)
    webhooks = WebhookSteps(database, sender, settings)
    worker = _worker(
        temporal,
        settings.task_queue,
        [*activities(settings, database, temporal, nodes), webhooks.disable_webhook],
        workflows=WORKFLOWS,
        workflow_runner=workflow_runner(settings),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
    )
    deliverer = _worker(temporal, QUEUE.format(task_queue=settings.task_queue), [webhooks.send_due])
    instance = Instance("worker", database, temporal, settings)
    background = [asyncio.create_task(work) for work in (instance.run(), own.keep_fresh())]
    stop = _stop_signal()
    try:
        garbage.leave_out_what_is_loaded()
        async with worker, deliverer:
            await stop.wait()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await temporal.close()
        await nodes.close()
        await sender.close()
        await database.close()


def receivers(settings: Settings, own: OwnServices) -> Sender:
    """A sender whose tries leave files to the worker's other work."""
    return Sender(ReceiverAddresses(settings, own), most=tries.within(open_files.raised_to(FILES)))


def _worker(
    temporal: TemporalGateway, task_queue: str, activities: Sequence[Callable[..., Any]], **options: Any
) -> Worker:
    """A worker whose activities have 2 s to end once it is stopped."""
    return Worker(
        temporal.client,
        task_queue=task_queue,
        activities=activities,
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        graceful_shutdown_timeout=timedelta(seconds=2),
        build_id=version("gpu-orchestrator"),  # the default reads the code of every module again
        **options,
    )


def _stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
