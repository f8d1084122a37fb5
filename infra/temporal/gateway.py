"""The gateway to Temporal: the calls that start and notify workflows, and the ids of workflows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from infra.settings import Settings
from infra.temporal.access import NoSuchWorkflow
from infra.temporal.notifier import Notifier
from infra.temporal.reachability import CALL
from infra.temporal.task_workflows import TaskWorkflows
from workflows.gpu_health import GpuHealthWorkflow
from workflows.messages import GpuHealthState, NodeSignal, OperationInput, WebhookState
from workflows.notifications import Notifications
from workflows.operation import OperationWorkflow
from workflows.shown import GPU_ID
from workflows.webhook import WebhookWorkflow


def node_workflow_id(gpu_id: str) -> str:
    """The id of a node's workflow."""
    return f"gpu-{gpu_id}"


def operation_workflow_id(operation_id: str) -> str:
    """The id of a bulk operation's workflow."""
    return f"operation-{operation_id}"


def webhook_workflow_id(webhook_id: str) -> str:
    """The id of a webhook's workflow."""
    return f"webhook-{webhook_id}"


class TemporalGateway(TaskWorkflows):
    """Starts and notifies workflows: those of tasks, nodes, bulk operations and webhooks."""

    def __init__(self, client: Client, settings: Settings) -> None:
        super().__init__(client, settings)
        self._notifier = Notifier(self)

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        """Signal the node's workflow, and start it if it does not run. Raises TemporalAway."""
        state = GpuHealthState(gpu_id, self._settings.heartbeat_timeout, epoch=signal.epoch)
        await self.start_node(state, start_signal=name, start_signal_args=[signal])

    async def start_node(self, state: GpuHealthState, **options: Any) -> None:
        """Start the node's workflow if it does not run. Raises TemporalAway."""
        attributes = TypedSearchAttributes([SearchAttributePair(GPU_ID, state.gpu_id)])
        options |= {"search_attributes": attributes, "static_summary": f"node {state.gpu_id}"}
        await self._begin(self.untraced, GpuHealthWorkflow.run, state, node_workflow_id(state.gpu_id), **options)

    async def start_operation(self, operation_id: str) -> None:
        """Start the workflow of a bulk operation if it does not run. Raises TemporalAway."""
        workflow_id, summary = operation_workflow_id(operation_id), f"operation {operation_id}"
        argument = OperationInput(operation_id)
        await self._begin(self.untraced, OperationWorkflow.run, argument, workflow_id, static_summary=summary)

    async def attend_webhook(self, webhook_id: str) -> None:
        """Signal a webhook's workflow that something is due, and start it if it does not run. Raises TemporalAway."""
        options = {"static_summary": f"webhook {webhook_id}", "start_signal": "due"}
        workflow_id = webhook_workflow_id(webhook_id)
        await self._begin(self.untraced, WebhookWorkflow.run, WebhookState(webhook_id), workflow_id, **options)

    async def end_webhook(self, webhook_id: str) -> None:
        """Signal the workflow of a deleted webhook to look at the row, though it is paused. Raises TemporalAway."""
        with suppress(NoSuchWorkflow):
            async with self.reaching():
                handle = self.client.get_workflow_handle(webhook_workflow_id(webhook_id))
                await handle.signal(WebhookWorkflow.resume, rpc_timeout=CALL)

    async def deliver(self, notifications: Notifications, *, but: str | None = None) -> None:
        """Notify workflows of a committed transaction, in the background (`Notifier.send`)."""
        await self._notifier.send(notifications, but=but)

    async def close(self) -> None:
        """Give notifications in flight a moment to arrive."""
        await self._notifier.close()
