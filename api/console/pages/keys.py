"""Keys: who may call, without their secrets. The command line makes and ends them."""

from __future__ import annotations

from typing import Any

from api.console.page import Asked, Page
from api.console.paging import PER_PAGE, Pager
from api.console.texts import N_
from api.routes.roles import ADMIN
from infra.db.access import api_keys


async def contents(asked: Asked) -> dict[str, Any]:
    number = Pager.number_in(asked.query)
    offset = (number - 1) * PER_PAGE
    keys, total = await asked.context.database.run(lambda c: api_keys.page(c, limit=PER_PAGE, offset=offset))
    return {"keys": keys, "pager": Pager(number, total, asked.query)}


PAGE = Page("keys", "/keys", N_("Keys"), contents, roles=ADMIN, key="k", every_s=10.0)
