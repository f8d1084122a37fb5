"""The activities as the workflows see them: names and types, no code. `activities` implements them."""

from __future__ import annotations

from typing import Protocol

from temporalio import activity

from workflows.messages import (
    AttemptRef,
    Cancelled,
    Collected,
    CollectInput,
    Dispatched,
    MonitorReport,
    NodeCommand,
    NodeView,
    OperationInput,
    OperationProgress,
    Selection,
    WebhookView,
)


class TaskActivities(Protocol):
    """The steps of a task's life."""

    @activity.defn(name="select_slot")
    async def select_slot(self, task_id: str) -> Selection:
        """Claim a fitting slot, or wait for one to be assigned. Repeating it returns the same grant."""
        ...

    @activity.defn(name="dispatch")
    async def dispatch(self, ref: AttemptRef) -> Dispatched:
        """PUT the attempt to its node. Raises DispatchAmbiguous while an unclear answer is worth another try."""
        ...

    @activity.defn(name="collect")
    async def collect(self, request: CollectInput) -> Collected:
        """Read how an attempt ended and write the task's own transition. Repeating it returns the same answer."""
        ...

    @activity.defn(name="stop_on_node")
    async def stop_on_node(self, ref: AttemptRef) -> None:
        """Let the node stop an attempt that is closed, and release its slot once the process is gone.

        A node that can't be reached is no error.
        """
        ...

    @activity.defn(name="cancel_task")
    async def cancel_task(self, task_id: str) -> Cancelled:
        """End the task as cancelled, unless it has ended. Repeating it returns the same answer."""
        ...


class NodeActivities(Protocol):
    """The steps of a node's life."""

    @activity.defn(name="attend_node")
    async def attend_node(self, gpu_id: str) -> NodeView:
        """Act on the node's row: OFFLINE on silence, close attempts of a faulty or gone node, alert."""
        ...

    @activity.defn(name="confirm_attempts")
    async def confirm_attempts(self, gpu_id: str) -> NodeView:
        """Ask the node for its open attempts, and close those that it does not confirm."""
        ...

    @activity.defn(name="obey")
    async def obey(self, command: NodeCommand) -> None:
        """Carry out a person's command as the REST call does. Repeating it changes nothing."""
        ...


class WebhookActivities(Protocol):
    """The steps of a webhook's life."""

    @activity.defn(name="send_due")
    async def send_due(self, webhook_id: str) -> WebhookView:
        """Send what is due, for a bounded time. Repeating it sends what is still due, with the same ids."""
        ...

    @activity.defn(name="disable_webhook")
    async def disable_webhook(self, webhook_id: str) -> None:
        """Disable the webhook at a person's request. Repeating it changes nothing."""
        ...


class MonitorActivities(Protocol):
    """The steps of one monitor run."""

    @activity.defn(name="check_health")
    async def check_health(self) -> MonitorReport:
        """Evaluate health, raise alerts, keep the report."""
        ...

    @activity.defn(name="reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Find and repair drift between the database and Temporal. Returns counts by kind."""
        ...


class RetentionActivities(Protocol):
    """The step of a retention run."""

    @activity.defn(name="forget")
    async def forget(self) -> dict[str, int]:
        """Forget what is older than the settings keep it; counts by kind. Repeating it goes on."""
        ...


class OperationActivities(Protocol):
    """The step of a bulk operation."""

    @activity.defn(name="work_off_page")
    async def work_off_page(self, operation: OperationInput) -> OperationProgress:
        """Change the tasks of the next page. Repeating it changes no task twice, and counts none twice."""
        ...
