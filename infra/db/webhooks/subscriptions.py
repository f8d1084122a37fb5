"""Webhooks: who wants which events, where. Secrets are in a table of their own, which no list reads.

A webhook without a URL is an owner's secret for the `webhook` of their tasks: each of its deliveries has its own URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infra.db.connection import Connection, columns

MOST = 20
"""Webhooks of one owner."""
OVERLAP_H = 24
"""Hours that a secret still signs once it has a successor."""
MOST_SECRETS = 5
"""Secrets that may sign at once: each is a signature in a header."""


@dataclass(frozen=True)
class Webhook:
    """A webhook as it is listed, without its secrets."""

    webhook_id: str
    owner: str
    url: str | None
    events: list[str]
    description: str | None
    state: str
    disabled_because: str | None
    created_at: datetime


@dataclass(frozen=True)
class NewWebhook:
    """A webhook to make."""

    webhook_id: str
    owner: str
    lineage: str
    sees_all: bool
    url: str | None
    events: Sequence[str]
    description: str | None
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Signer:
    """The webhook that signs for an owner's tasks."""

    webhook_id: str
    state: str
    disabled_because: str | None


_IS_THERE = "state <> 'DELETED'"
_GET = f"SELECT {columns(Webhook)} FROM webhooks WHERE webhook_id = %(webhook_id)s AND {_IS_THERE}"
_LISTED = f"{_IS_THERE} AND url IS NOT NULL AND (CAST(%(owner)s AS text) IS NULL OR owner = %(owner)s)"
_PAGE = (
    f"SELECT {columns(Webhook)} FROM webhooks WHERE {_LISTED} ORDER BY created_at, webhook_id"
    " LIMIT %(limit)s OFFSET %(offset)s"
)
_COUNT = f"SELECT count(*) FROM webhooks WHERE {_LISTED}"
_OF_TASKS = f"SELECT {columns(Signer)} FROM webhooks WHERE owner = %(owner)s AND url IS NULL AND {_IS_THERE}"
_INSERT = """
    INSERT INTO webhooks (webhook_id, owner, lineage, sees_all, url, events, description)
    VALUES (%(webhook_id)s, %(owner)s, %(lineage)s, %(sees_all)s, %(url)s, %(events)s, %(description)s)
    """
_ADD_KEY = "INSERT INTO webhook_secrets (webhook_id, secret) VALUES (%(webhook_id)s, %(secret)s)"
_SECRETS = """
    SELECT secret FROM webhook_secrets
     WHERE webhook_id = %(webhook_id)s AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY id DESC
    """
_END_SECRETS = f"""
    UPDATE webhook_secrets SET expires_at = clock_timestamp() + interval '{OVERLAP_H} h'
     WHERE webhook_id = %(webhook_id)s AND expires_at IS NULL
    """
_FORGET_SECRETS = (
    "DELETE FROM webhook_secrets WHERE webhook_id = %(webhook_id)s AND (%(all)s OR expires_at <= clock_timestamp())"
)
_LOCK = f"SELECT webhook_id FROM webhooks WHERE webhook_id = %(webhook_id)s AND {_IS_THERE} FOR UPDATE"
_SET_STATE = """
    UPDATE webhooks SET state = %(state)s, disabled_because = %(because)s, look_after = NULL
     WHERE webhook_id = %(webhook_id)s AND state <> %(state)s AND state <> 'DELETED'
    """


async def get(connection: Connection, webhook_id: str) -> Webhook | None:
    """A webhook that is not deleted."""
    return await connection.one_or_none(Webhook, _GET, {"webhook_id": webhook_id})


async def page(connection: Connection, owner: str | None, *, limit: int, offset: int) -> tuple[list[Webhook], int]:
    """One page of webhooks with a URL, oldest first, and their total; those of all owners if `owner` is None."""
    values = {"owner": owner, "limit": limit, "offset": offset}
    return await connection.all(Webhook, _PAGE, values), await connection.one(int, _COUNT, values)


async def count(connection: Connection, owner: str) -> int:
    """How many webhooks with a URL an owner has."""
    return await connection.one(int, _COUNT, {"owner": owner})


async def of_tasks(connection: Connection, owner: str) -> Signer | None:
    """The webhook that signs for the tasks of an owner, or None."""
    return await connection.one_or_none(Signer, _OF_TASKS, {"owner": owner})


async def add(connection: Connection, new: NewWebhook) -> None:
    """Add a webhook with its first secret."""
    await connection.execute(_INSERT, new.__dict__ | {"events": list(new.events)})
    await connection.execute(_ADD_KEY, new.__dict__)


async def lock(connection: Connection, webhook_id: str) -> bool:
    """Lock a webhook until the transaction ends. Returns False if there is none."""
    return await connection.one_or_none(str, _LOCK, {"webhook_id": webhook_id}) is not None


async def secrets(connection: Connection, webhook_id: str) -> list[str]:
    """The secrets that sign now, the newest first."""
    return await connection.all(str, _SECRETS, {"webhook_id": webhook_id})


async def replace_secret(connection: Connection, webhook_id: str, secret: str) -> None:
    """Let a new secret sign, and those before for `OVERLAP_H` hours more."""
    values = {"webhook_id": webhook_id, "secret": secret, "all": False}
    await connection.execute(_FORGET_SECRETS, values)
    await connection.execute(_END_SECRETS, values)
    await connection.execute(_ADD_KEY, values)


async def forget_secrets(connection: Connection, webhook_id: str) -> None:
    """Delete the secrets of a webhook."""
    await connection.execute(_FORGET_SECRETS, {"webhook_id": webhook_id, "all": True})


async def set_state(connection: Connection, webhook_id: str, state: str, because: str | None = None) -> bool:
    """Change the state. Returns False if it was so already, or the webhook is deleted."""
    values = {"webhook_id": webhook_id, "state": state, "because": because}
    return await connection.execute(_SET_STATE, values) > 0
