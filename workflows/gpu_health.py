"""A node's health, one workflow for its whole life: `gpu-{gpuId}`.

Level-triggered: a signal says that something happened, `attend_node` looks at the row and does what
it demands. So a signal that is lost, doubled or late changes nothing but the moment.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.domain.gpu import GpuStatus
    from workflows.messages import GpuHealthState, NodeSignal, NodeView
    from workflows.ports import NodeActivities


@workflow.defn(name="GpuHealthWorkflow")
class GpuHealthWorkflow:
    """Watches one node until it is deregistered. All its state is one object, carried over continue-as-new."""

    @workflow.init
    def __init__(self, state: GpuHealthState) -> None:
        self._state = replace(state, pending=[])
        self._pending = list(state.pending)  # what happened since the row was last looked at
        self._deadline: asyncio.Task[None] | None = None

    @workflow.run
    async def run(self, state: GpuHealthState) -> None:
        """Returns once the node is gone."""
        workflow.set_current_details(f"{state.status}, epoch {state.epoch}, {state.open_attempts} running")
        while True:
            self._arm()
            await workflow.wait_condition(lambda: bool(self._pending) or self._deadline_passed())
            happened, self._pending = self._pending, []
            view = await self._attend()
            if view.status is None and not self._pending:
                workflow.set_current_details("deregistered")
                return
            self._note(view, happened)
            if policies.history_is_long(workflow.info()):
                workflow.continue_as_new(replace(self._state, pending=self._pending))

    @workflow.signal
    def register(self, signal: NodeSignal) -> None:
        """The node registered, with a new epoch."""
        self._pending.append("register")

    @workflow.signal
    def heartbeat(self, signal: NodeSignal) -> None:
        """An OFFLINE node beats again."""
        self._pending.append("heartbeat")

    @workflow.signal
    def silent(self, signal: NodeSignal) -> None:
        """The last beat is older than the grace."""
        self._pending.append("silent")

    @workflow.signal
    def fault(self, signal: NodeSignal) -> None:
        """The node was marked FAULTY."""
        self._pending.append(f"fault: {signal.reason}")

    @workflow.signal
    def recover(self, signal: NodeSignal) -> None:
        """The node was recovered."""
        self._pending.append("recover")

    @workflow.signal
    def deregister(self, signal: NodeSignal) -> None:
        """The node is gone."""
        self._pending.append("deregister")

    async def _attend(self) -> NodeView:
        view = await workflow.execute_local_activity_method(
            NodeActivities.attend_node,
            self._state.gpu_id,
            start_to_close_timeout=policies.DATABASE_STEP,
            retry_policy=policies.DATABASE_RETRY,
        )
        if not view.unconfirmed:
            return view
        return await workflow.execute_activity_method(
            NodeActivities.confirm_attempts,
            self._state.gpu_id,
            start_to_close_timeout=policies.ASK_TIMEOUT,
            retry_policy=RetryPolicy(),
            summary="ask the node for its open attempts",
        )

    def _arm(self) -> None:
        """One deadline timer, set anew only after it has fired: a beat never touches it."""
        if self._deadline is None or self._deadline.done():
            held = self._state.status is GpuStatus.OFFLINE and self._state.open_attempts > 0
            seconds = (
                self._state.check_every_s if held else max(self._state.check_every_s, policies.NODE_CHECK_AT_LEAST_S)
            )
            self._deadline = asyncio.create_task(workflow.sleep(seconds, summary="deadline of the next beat"))

    def _deadline_passed(self) -> bool:
        return self._deadline is not None and self._deadline.done()

    def _note(self, view: NodeView, happened: list[str]) -> None:
        was = self._state
        self._state = replace(
            was,
            status=view.status or was.status,
            epoch=view.epoch,
            open_attempts=view.open_attempts,
            check_every_s=view.check_every_s,
        )
        if view.status is GpuStatus.OFFLINE and view.open_attempts and was.status is not GpuStatus.OFFLINE:
            self._rearm()
        reasons = ", ".join(happened) or "deadline"
        workflow.set_current_details(
            f"{view.status}, epoch {view.epoch}, {view.open_attempts} running, silent for {view.silent_s:.0f} s"
            f" (after: {reasons})"
        )

    def _rearm(self) -> None:
        """Attempts are held for a node that fell silent: look again after one grace, not later."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
