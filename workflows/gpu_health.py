"""A node's health, one workflow for its whole life: `gpu-{gpuId}`.

Level-triggered: a signal says that something happened, `attend_node` looks at the row and does what
it demands. So a signal that is lost, doubled or late changes nothing but the moment. A person's command, a signal
without the epoch, is first written to the row, once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.domain import command
    from workflows.domain.command import Command
    from workflows.domain.gpu import GpuStatus
    from workflows.messages import GpuHealthState, NodeCommand, NodeState, NodeView
    from workflows.ports import NodeActivities
    from workflows.signals import INTERNAL, one_input


@workflow.defn(name="GpuHealthWorkflow")
class GpuHealthWorkflow:
    """Watches one node until it is deregistered. All its state is one object, carried over continue-as-new."""

    @workflow.init
    def __init__(self, state: GpuHealthState) -> None:
        self._state = replace(state, pending=[], commands=[])
        self._pending = list(state.pending)  # what happened since the row was last looked at
        self._commands = list(state.commands)  # of persons, not carried out yet
        self._taken = 0  # commands that this run has received
        self._drains = 0  # signals about a drain or its end
        self._seen_at: str | None = None
        self._deadline: asyncio.Task[None] | None = None

    @workflow.run
    async def run(self, state: GpuHealthState) -> None:
        """Returns once the node is gone."""
        workflow.set_current_details(self._described())
        while True:
            self._arm()
            await workflow.wait_condition(lambda: bool(self._pending or self._commands) or self._deadline_passed())
            obeyed = await self._obey()
            happened, self._pending = self._pending + obeyed, []
            view = await self._attend()
            if view.status is None and not self._pending and not self._commands:
                workflow.set_current_details("deregistered")
                return
            self._note(view, happened)
            if policies.history_is_long(workflow.info()):
                workflow.continue_as_new(replace(self._state, pending=self._pending, commands=self._commands))

    @workflow.signal(description='Mark the node FAULTY, as POST /gpus/{gpuId}/fault. Input: {"reason": "…"}')
    @one_input
    def fault(self, given: RawValue) -> None:
        """The node was marked FAULTY; from a person: mark it."""
        self._hear("fault", given)

    @workflow.signal(description='Bring it back, as POST /gpus/{gpuId}/recover. Input: none, or {"reason": "…"}')
    @one_input
    def recover(self, given: RawValue) -> None:
        """The node was recovered; from a person: recover it."""
        self._hear("recover", given)

    @workflow.signal(
        description="Give the node no new task, as POST /gpus/{gpuId}/drain."
        ' Input: {"reason": "…"}, and "deadline" in Unix milliseconds if there is one'
    )
    @one_input
    def drain(self, given: RawValue) -> None:
        """The node drains; from a person: drain it."""
        self._hear_of_drain("drain", given)

    @workflow.signal(
        description='Give it new tasks again, as POST /gpus/{gpuId}/undrain. Input: none, or {"reason": "…"}'
    )
    @one_input
    def undrain(self, given: RawValue) -> None:
        """The node's drain has ended; from a person: end it."""
        self._hear_of_drain("undrain", given)

    @workflow.signal(description=INTERNAL)
    @one_input
    def register(self, given: RawValue) -> None:
        """The node registered, with a new epoch."""
        self._hear("register", given)

    @workflow.signal(description=INTERNAL)
    @one_input
    def heartbeat(self, given: RawValue) -> None:
        """An OFFLINE node beats again."""
        self._hear("heartbeat", given)

    @workflow.signal(description=INTERNAL)
    @one_input
    def silent(self, given: RawValue) -> None:
        """The last beat is older than the grace."""
        self._hear("silent", given)

    @workflow.signal(description=INTERNAL)
    @one_input
    def deregister(self, given: RawValue) -> None:
        """The node is gone."""
        self._hear("deregister", given)

    def _hear(self, name: str, given: RawValue) -> None:
        """A notification carries the epoch; without one the signals of `Command` are a person's."""
        said = command.read(given.payload.data)
        if command.epoch_of(said) is not None:
            self._pending.append(name)
        elif name in set(Command):
            self._take(Command(name), said)

    def _hear_of_drain(self, name: str, given: RawValue) -> None:
        """A patch of its own for each: the previous version ignored these signals, perhaps in this run."""
        self._drains += 1
        if workflow.patched(f"drain-{self._drains}"):
            self._hear(name, given)

    def _take(self, wanted: Command, said: Any) -> None:
        """A person's command. A patch of its own for each: the previous version ignored some, perhaps in this run."""
        self._taken += 1
        if workflow.patched(f"command-{self._taken}"):
            signal = f"{workflow.info().run_id}/{self._taken}"
            reason, deadline_ms = command.reason_of(said), command.deadline_of(said)
            self._commands.append(NodeCommand(self._state.gpu_id, wanted, reason, signal, deadline_ms))

    @workflow.query(description="Status, drain, epoch and running attempts, as the workflow saw them last.")
    def state(self) -> NodeState:
        """The node as the workflow knows it."""
        known = self._state
        return NodeState(known.status, known.epoch, known.open_attempts, self._seen_at, known.draining)

    def _described(self) -> str:
        known = self._state
        drain = ", draining" if known.draining else ""
        return f"{known.status}{drain}, epoch {known.epoch}, {known.open_attempts} running"

    async def _obey(self) -> list[str]:
        """Carry out the operators' signals in order. Returns them."""
        done = []
        while self._commands:
            one = self._commands[0]
            await workflow.execute_activity_method(
                NodeActivities.obey,
                one,
                start_to_close_timeout=policies.DATABASE_STEP,
                retry_policy=policies.DATABASE_RETRY,
                summary=f"{one.command} by a person's signal",
            )
            done.append(f"{self._commands.pop(0).command} by a person")
        return done

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
        """One deadline timer, set again only after it has fired: a beat never touches it."""
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
        self._seen_at = workflow.now().isoformat(timespec="seconds")
        self._state = replace(
            was,
            status=view.status or was.status,
            epoch=view.epoch,
            open_attempts=view.open_attempts,
            check_every_s=view.check_every_s,
            draining=view.draining,
        )
        if view.status is GpuStatus.OFFLINE and view.open_attempts and was.status is not GpuStatus.OFFLINE:
            self._rearm()
        reasons = ", ".join(happened) or "deadline"
        workflow.set_current_details(f"{self._described()}, silent for {view.silent_s:.0f} s (after: {reasons})")

    def _rearm(self) -> None:
        """A node that fell silent keeps attempts: look again after one grace, not later."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
