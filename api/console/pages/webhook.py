"""A webhook: its deliveries, and what became of each."""

from __future__ import annotations

import time
from typing import Any

from api.console.page import EVERYBODY, Asked, Page
from api.console.paging import PER_PAGE, Pager
from api.console.texts import N_
from api.routes.webhooks import check_owner
from api.schemas.webhooks import id_of
from infra.db.webhooks import deliveries

DAY_MS = 86_400_000


async def contents(asked: Asked) -> dict[str, Any]:
    context, webhook_id = asked.context, asked.path["webhook_id"]
    webhook = await check_owner(context, asked.caller, webhook_id)
    number = Pager.number_in(asked.query)
    rows, total = await context.database.run(
        lambda c: deliveries.page(c, webhook_id, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)
    )
    is_exact = total <= deliveries.MOST_COUNTED
    now = int(time.time()) // 60 * 60_000 + 60_000
    return {
        "webhook": webhook,
        "deliveries": [(id_of(row.delivery_id), row) for row in rows],
        "pager": Pager(number, min(total, deliveries.MOST_COUNTED), asked.query, is_exact),
        "last_day": {"from": now - DAY_MS, "to": now, "failedOnly": True},
    }


PAGE = Page(
    "webhook",
    "/webhooks/{webhook_id}",
    N_("Webhook"),
    contents,
    roles=EVERYBODY,
    entry="/webhooks",
    is_listed=False,
    every_s=2.0,
)
