"""Changes to webhooks: make, delete, rotate, test, replay."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from infra.db import locks
from infra.db.access import audit
from infra.db.access.audit import Action, By
from infra.db.connection import Connection
from infra.db.webhooks import body, deliveries, subscriptions
from infra.db.webhooks.subscriptions import MOST, MOST_SECRETS, NewWebhook, Webhook
from workflows.domain.errors import (
    DeliveryNotFound,
    TooManyDeliveries,
    TooManySecrets,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)


async def create(connection: Connection, by: By, new: NewWebhook) -> None:
    """Make a webhook. Raises TooManyWebhooks."""
    await locks.user(connection, new.owner)
    if await subscriptions.count(connection, new.owner) >= MOST:
        raise TooManyWebhooks
    await subscriptions.add(connection, new)
    await audit.record(connection, by, Action.WEBHOOK_CREATE, new.webhook_id, " ".join(new.events))


async def delete(connection: Connection, by: By, webhook_id: str) -> None:
    """Delete a webhook. Its deliveries follow in the background. Raises WebhookNotFound."""
    await _lock(connection, webhook_id)
    await subscriptions.set_state(connection, webhook_id, "DELETED")
    await subscriptions.forget_secrets(connection, webhook_id)
    await audit.record(connection, by, Action.WEBHOOK_DELETE, webhook_id)


async def rotate(connection: Connection, by: By, webhook_id: str, secret: str) -> None:
    """Let a new secret sign in addition to the earlier ones. Raises WebhookNotFound, TooManySecrets."""
    await _lock(connection, webhook_id)
    if len(await subscriptions.secrets(connection, webhook_id)) >= MOST_SECRETS:
        raise TooManySecrets
    await subscriptions.replace_secret(connection, webhook_id, secret)
    await audit.record(connection, by, Action.WEBHOOK_ROTATE, webhook_id)


async def set_secret_of_tasks(connection: Connection, by: By, new: NewWebhook) -> str:
    """Make a new secret for the `webhook` of an owner's tasks. Returns its id. Raises TooManySecrets."""
    await locks.user(connection, new.owner)
    known = await subscriptions.of_tasks(connection, new.owner)
    if known is None:
        await subscriptions.add(connection, new)
        await audit.record(connection, by, Action.WEBHOOK_CREATE, new.webhook_id, "tasks")
        return new.webhook_id
    await rotate(connection, by, known.webhook_id, new.secret)
    await subscriptions.set_state(connection, known.webhook_id, "ACTIVE")
    return known.webhook_id


async def disable(connection: Connection, by: By, webhook_id: str, because: str) -> bool:
    """Send nothing more. Returns False if it was so already."""
    changed = await subscriptions.set_state(connection, webhook_id, "DISABLED", because)
    if changed:
        await audit.record(connection, by, Action.WEBHOOK_DISABLE, webhook_id, because)
    return changed


async def test(connection: Connection, by: By, webhook_id: str) -> int:
    """Let a test be sent. Returns the delivery's number. Raises WebhookNotFound, WebhookDisabled."""
    webhook = await _active(connection, webhook_id)
    if webhook.url is None:
        raise WebhookNotFound  # a secret of tasks has no receiver of its own
    event_id = f"evt_test_{secrets.token_hex(8)}"
    content = body.of_event(event_id, body.TEST, datetime.now(UTC), {"webhookId": webhook_id})
    await audit.record(connection, by, Action.WEBHOOK_TEST, webhook_id)
    return await deliveries.add(connection, webhook_id, event_id, content)


async def replay_range(
    connection: Connection, by: By, webhook_id: str, since: datetime, until: datetime, *, failed_only: bool
) -> int:
    """Send the deliveries of a period again. Returns their number.

    Raises WebhookNotFound, WebhookDisabled, TooManyDeliveries.
    """
    await _active(connection, webhook_id)
    matched = await deliveries.replay_range(connection, webhook_id, since, until, failed_only=failed_only)
    if matched is None:
        raise TooManyDeliveries
    await audit.record(connection, by, Action.WEBHOOK_REPLAY, webhook_id, f"{matched}")
    return matched


async def replay(connection: Connection, by: By, webhook_id: str, delivery_id: int) -> int:
    """Send one again. Raises DeliveryNotFound, WebhookDisabled."""
    await _active(connection, webhook_id)
    matched = await deliveries.replay(connection, delivery_id)
    if not matched:
        raise DeliveryNotFound
    await audit.record(connection, by, Action.WEBHOOK_REPLAY, webhook_id, "1")
    return matched


async def _lock(connection: Connection, webhook_id: str) -> None:
    if not await subscriptions.lock(connection, webhook_id):
        raise WebhookNotFound


async def _active(connection: Connection, webhook_id: str) -> Webhook:
    found = await subscriptions.get(connection, webhook_id)
    if found is None:
        raise WebhookNotFound
    if found.state != "ACTIVE":
        raise WebhookDisabled
    return found
