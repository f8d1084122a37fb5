"""The steps of a webhook's life: send what is due, and stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from temporalio import activity

from activities.beating import beating
from infra.db.access.audit import BY_ITSELF, Actor
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.transactions import change_webhook
from infra.db.webhooks import due
from infra.db.webhooks.due import DueDelivery, WebhookTurn
from infra.settings import Settings
from infra.webhooks import signing
from infra.webhooks.sender import ReceiverAnswer, Sender, Trouble
from workflows.domain.system_actor import SystemActor
from workflows.messages import WebhookView

log = logging.getLogger(__name__)

TURN_S = 10.0
"""Seconds after which a turn takes nothing new. A person's `pause` takes effect then."""
LINGER_S = 2.0
"""Seconds without anything due after which a turn ends: what comes meanwhile needs no new one."""
LOOK_EVERY_S = 0.25
GONE = 410
BY_A_PERSON = Actor(None, SystemActor.PERSON, None)


class WebhookSteps:
    """Implements `workflows.ports.WebhookActivities`."""

    def __init__(self, database: Database, sender: Sender, settings: Settings) -> None:
        self._database = database
        self._sender = sender
        self._delays = settings.webhook_retries

    @activity.defn(name="send_due")
    async def send_due(self, webhook_id: str) -> WebhookView:
        """Send what is due for `TURN_S`, a few at a time."""
        async with beating():
            return await _Turn(self._database, self._sender, self._delays, webhook_id).run()

    @activity.defn(name="disable_webhook")
    async def disable_webhook(self, webhook_id: str) -> None:
        """Disable the webhook; the deliveries that are left are given up."""
        await self._database.run(lambda c: change_webhook.disable(c, BY_A_PERSON, webhook_id, "TEMPORAL"))
        await give_up(self._database, webhook_id)


async def give_up(database: Database, webhook_id: str) -> None:
    """Give up what is left to send of a disabled webhook."""
    while await database.run(lambda c: due.end(c, webhook_id)):
        pass


class _Turn:
    """One turn of one webhook."""

    def __init__(self, database: Database, sender: Sender, delays: Sequence[float], webhook_id: str) -> None:
        self._run = database.run
        self._database = database
        self._sender = sender
        self._tries = sender.tries
        self._delays = delays
        self._webhook_id = webhook_id
        self._sending: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> WebhookView:
        """Send until nothing has been due for a while, or the time is over."""
        try:
            gone = await self._send_all()
            await self._finish()
        finally:
            for sending in self._sending.values():
                sending.cancel()
        next_in_s = await self._run(lambda c: due.leave(c, self._webhook_id))
        return WebhookView(gone, None if next_in_s is None else max(0.0, next_in_s))

    async def _send_all(self) -> bool:
        """Returns whether the webhook is deleted."""
        began = idle_since = time.monotonic()
        while time.monotonic() - began < TURN_S and time.monotonic() - idle_since < LINGER_S:
            turn = await self._run(self._take)
            if turn.state != "ACTIVE":
                if turn.state is not None:
                    await self._finish()  # what is accepted now is no failure
                    await give_up(self._database, self._webhook_id)
                return turn.state is None
            for one in turn.due:
                if self._tries.reserve(turn.owner, self._webhook_id, one.host):
                    self._begin(one, turn.owner, turn.secrets)
            if self._sending:
                idle_since = time.monotonic()
                await asyncio.wait(self._sending.values(), timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                self._collect()
            else:
                await asyncio.sleep(LOOK_EVERY_S)
        return False

    async def _take(self, connection: Connection) -> WebhookTurn:
        """Take what is due. A webhook whose owner has no live key any more is disabled."""
        turn = await due.take(connection, self._webhook_id, list(self._sending), self._tries)
        if turn.state != "ACTIVE" or turn.has_key:
            return turn
        await change_webhook.disable(connection, BY_ITSELF, self._webhook_id, "KEY")
        return WebhookTurn("DISABLED")

    def _begin(self, one: DueDelivery, owner: str, secrets: Sequence[str]) -> None:
        sending = self._sending[one.delivery_id] = asyncio.create_task(self._send(one, owner, secrets))
        release = partial(self._tries.release, owner, self._webhook_id, one.host)
        sending.add_done_callback(lambda _: release())  # also where it is cancelled unbegun

    async def _send(self, one: DueDelivery, owner: str, secrets: Sequence[str]) -> None:
        answer = await self._answer(one, owner, secrets)
        if answer.counts:
            await self._run(partial(self._note, one=one, answer=answer))

    async def _answer(self, one: DueDelivery, owner: str, secrets: Sequence[str]) -> ReceiverAnswer:
        """Return the receiver's answer. An error is the outcome of this try only."""
        try:
            headers = signing.headers(one.event_id, one.body, secrets)
            return await self._sender.send(owner, one.url, one.body, headers)
        except Exception:
            log.exception("a try of delivery %s failed unexpectedly", one.delivery_id)
            return ReceiverAnswer(trouble=Trouble.ERROR)

    async def _note(self, connection: Connection, *, one: DueDelivery, answer: ReceiverAnswer) -> None:
        wait_s = None if answer.status == GONE else self._pause_s(one.tries, answer)
        noted = await due.note(
            connection,
            one.delivery_id,
            one.tries,
            status=answer.status,
            error=answer.trouble,
            wait_s=wait_s,
            accepted=answer.is_accepted,
        )
        if noted and answer.status == GONE and one.is_of_webhook:
            await change_webhook.disable(connection, BY_ITSELF, self._webhook_id, "410")

    def _pause_s(self, tries: int, answer: ReceiverAnswer) -> float | None:
        """Seconds until the next try, or None after the last one."""
        return max(self._delays[tries], answer.retry_after_s) if tries < len(self._delays) else None

    async def _finish(self) -> None:
        """Wait for the tries under way. Raises what the database raised."""
        for sending in list(self._sending.values()):
            await sending

    def _collect(self) -> None:
        """Forget those that are done. Raises what the database raised."""
        for delivery_id in [number for number, task in self._sending.items() if task.done()]:
            self._sending.pop(delivery_id).result()
