"""The whole application in process, over a database that knows nothing but the caller's key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import httpx
from fastapi import FastAPI

from api.app import create_app
from infra.db.access import callers
from infra.db.access.callers import Caller, hash_key
from infra.db.access.keyring import Keyring
from workflows.domain.role import Role


class Nothing:
    """A database that knows the last key that was made, has some answers more, and is away after them."""

    def __init__(self) -> None:
        self._made = 0
        self._answers: list[Any] = []

    def key(self, role: str, *answers: Any) -> str:
        """A new key, which no process has seen before, and what is answered after its caller was looked for."""
        self._made += 1
        caller = Caller(f"key_{self._made}", Role(role), "u", "key_1")
        self._answers = [*reversed(answers), {hash_key(f"k{self._made}"): caller}]
        return f"k{self._made}"

    async def run(self, _: Callable[[Any], Awaitable[Any]]) -> Any:
        if self._answers:
            return self._answers.pop()
        raise ConnectionError

    single = run


@cache
def _served() -> tuple[Nothing, FastAPI]:
    temporal = AsyncMock(reaching=MagicMock())
    temporal.client.get_schedule_handle = MagicMock(return_value=AsyncMock())
    context = MagicMock(database=Nothing(), cache=AsyncMock(), temporal=temporal, deliver=AsyncMock())
    context.keys = Keyring(context.database, callers.find_all, pause_s=0)  # each call brings a new key
    context.settings.public_url = None
    context.settings.rate_of.return_value = None
    context.settings.bytes_of.return_value = None
    app = create_app(context)
    app.middleware_stack = app.build_middleware_stack()
    return context.database, app


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return _served()[1].openapi()


def client(role: str | None = None, *answers: Any) -> httpx.AsyncClient:
    """A caller with a key of this role, whose first call has these answers of the database, or one without a key."""
    database, app = _served()
    headers = {} if role is None else {"X-API-Key": database.key(role, *answers)}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test/api/v2", headers=headers)


async def ask(role: str | None, method: str, path: str, **options: Any) -> httpx.Response:
    """The answer to one call."""
    async with client(role) as http:
        return await http.request(method, path, **options)
