"""A webhook's deliveries, one workflow for its whole life: `webhook-{webhookId}`.

Level-triggered, as a node's: a signal says that something may be due, `send_due` looks at the rows and sends it, and
returns when the next try is. So a signal that is lost, doubled or late changes nothing but the moment.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import CancelledError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.messages import WebhookState, WebhookView
    from workflows.ports import WebhookActivities
    from workflows.signals import INTERNAL, one_input

QUEUE = "{task_queue}-webhooks"
"""The task queue of the activities: a receiver that hangs takes no room from tasks."""


@workflow.defn(name="WebhookWorkflow")
class WebhookWorkflow:
    """Sends what is due until the webhook is deleted. A person may pause it, resume it, or cancel it."""

    @workflow.init
    def __init__(self, state: WebhookState) -> None:
        self._state = state
        self._paused = state.paused
        self._due = True

    @workflow.run
    async def run(self, state: WebhookState) -> None:
        """Returns once the webhook is deleted. A request to cancel disables it, and it ends Canceled."""
        try:
            await self._live()
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error) or workflow.cancellation_reason() is None:
                raise
            await self._disable()
            self._describe("disabled by a person")
            raise CancelledError("the webhook was disabled") from None

    async def _live(self) -> None:
        while True:
            self._describe("paused" if self._paused else "nothing is due")
            await workflow.wait_condition(lambda: self._is_due or policies.history_is_long(workflow.info()))
            if policies.history_is_long(workflow.info()):
                workflow.continue_as_new(replace(self._state, paused=self._paused))
            self._due = False
            view = await self._send()
            if view.gone:
                self._describe("deleted")
                return
            if view.next_in_s is not None:
                await self._until(view.next_in_s)

    @property
    def _is_due(self) -> bool:
        return self._due and not self._paused

    @workflow.signal(description=INTERNAL)
    @one_input
    def due(self, given: RawValue) -> None:
        """Check what is due, or whether the webhook is deleted."""
        self._due = True

    @workflow.signal(description="Send nothing until `resume`. What comes meanwhile is kept. Input: none")
    @one_input
    def pause(self, given: RawValue) -> None:
        """Pause sending."""
        self._paused = True

    @workflow.signal(description="Send again, after `pause`. Input: none")
    @one_input
    def resume(self, given: RawValue) -> None:
        """Resume sending."""
        self._paused, self._due = False, True

    @workflow.query(description="Whether it is paused.")
    def state(self) -> WebhookState:
        """The webhook as the workflow knows it."""
        return replace(self._state, paused=self._paused)

    async def _until(self, seconds: float) -> None:
        """Wait until the next try is due, or something else happens. A pause that ends looks at the rows again."""
        self._describe(f"next try in {seconds:.0f} s")
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._due or self._paused,
                timeout=max(seconds, policies.WEBHOOK_PAUSE_S),
                timeout_summary="next try",
            )
        self._due = True

    async def _send(self) -> WebhookView:
        self._describe("sending")
        return await workflow.execute_activity_method(
            WebhookActivities.send_due,
            self._state.webhook_id,
            task_queue=QUEUE.format(task_queue=workflow.info().task_queue),
            start_to_close_timeout=policies.WEBHOOK_TURN,
            heartbeat_timeout=policies.WEBHOOK_BEAT,
            retry_policy=policies.DATABASE_RETRY,
            summary="send what is due",
        )

    async def _disable(self) -> None:
        await workflow.execute_activity_method(
            WebhookActivities.disable_webhook,
            self._state.webhook_id,
            start_to_close_timeout=policies.DATABASE_STEP,
            retry_policy=policies.DATABASE_RETRY,
            summary="disable it, as a person wants",
        )

    def _describe(self, what: str) -> None:
        workflow.set_current_details(what)
