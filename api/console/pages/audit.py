"""Audit log: who did what, and when."""

from __future__ import annotations

from typing import Any

from api.console.page import Asked, Page
from api.console.paging import PER_PAGE, with_query
from api.console.texts import N_
from api.routes.roles import ADMIN
from infra.db.access import audit
from infra.db.access.audit import Action

_COLUMNS = {"owner": "owner", "keyId": "key_id", "action": "action"}
"""The columns of the filters."""


async def contents(asked: Asked) -> dict[str, Any]:
    filters: dict[str, object] = {
        column: value for name, column in _COLUMNS.items() if (value := asked.query.get(name, ""))
    }
    text = asked.query.get("before", "")
    before = int(text) if text.isdecimal() and len(text) < 19 else None
    rows = await asked.context.database.single(lambda c: audit.before(c, filters, before, limit=PER_PAGE + 1))
    return {
        "entries": rows[:PER_PAGE],
        "older": with_query(asked.query, before=str(rows[PER_PAGE - 1].id)) if len(rows) > PER_PAGE else None,
        "newest": with_query(asked.query, before="") if before is not None else None,
        "actions": list(Action),
        "given": {name: asked.query.get(name, "") for name in _COLUMNS},
    }


PAGE = Page("audit", "/audit", N_("Audit log"), contents, roles=ADMIN, key="l")
