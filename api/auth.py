"""Who calls: Bearer or X-API-Key on every path below /api/v2, known or not (specification, 认证说明)."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Unauthorized, answer_to
from infra.db import keys
from infra.db.engine import Database
from infra.db.keys import Caller

PREFIX = "/api/v2"
REMEMBERED_S = 2.0
"""A key's row is read again after this time: so soon does a revocation count everywhere."""


class Authentication:
    """Answers 401 before anything else is looked at, and leaves the caller in the request's state."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database
        self._remembered: dict[str, tuple[float, Caller]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PREFIX}/"):
            try:
                scope.setdefault("state", {})["caller"] = await self._caller(Headers(scope=scope))
            except Exception as error:  # noqa: BLE001  every failure is an answer in the envelope
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _caller(self, headers: Headers) -> Caller:
        secret = presented(headers)
        if secret is None:
            raise Unauthorized
        hashed = keys.hash_key(secret)
        until, caller = self._remembered.get(hashed, (0.0, None))
        if caller is not None and time.monotonic() < until:
            return caller
        found = await self._database.single(lambda c: keys.find(c, secret))
        if found is None:
            self._remembered.pop(hashed, None)
            raise Unauthorized
        self._remembered[hashed] = (time.monotonic() + REMEMBERED_S, found)
        return found


def presented(headers: Headers) -> str | None:
    """The one key of a request; None where there is none, or two different ones."""
    found = set(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer":
            return None
        found.add(token.strip())
    found.discard("")
    return found.pop() if len(found) == 1 else None


async def _of_request(request: Request) -> Caller:  # async: FastAPI runs what is not in a thread
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_of_request)]
