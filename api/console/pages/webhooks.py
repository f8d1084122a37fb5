"""Webhooks: who is sent which events."""

from __future__ import annotations

from typing import Any

from api.console.page import EVERYBODY, Asked, Page
from api.console.paging import PER_PAGE, Pager
from api.console.texts import N_
from api.routes import access
from api.routes.roles import OPERATORS
from infra.db.webhooks import subscriptions
from workflows.domain.event import OF_USERS, EventType


async def contents(asked: Asked) -> dict[str, Any]:
    owner, number = access.owner_seen_by(asked.caller), Pager.number_in(asked.query)
    rows, total = await asked.context.database.run(
        lambda c: subscriptions.page(c, owner, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)
    )
    return {
        "webhooks": rows,
        "pager": Pager(number, total, asked.query),
        "types": list(EventType) if asked.caller.role in OPERATORS else sorted(OF_USERS),
        "usual": EventType.TASK_ENDED,
    }


PAGE = Page("webhooks", "/webhooks", N_("Webhooks"), contents, roles=EVERYBODY, key="w")
