"""Authentication by Bearer token or X-API-Key, on every path below /api/v2, known or not (specification, 认证说明)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import Unauthorized, answer_to
from infra.db.ops.api_keys import Caller
from infra.db.ops.keyring import Keyring
from infra.db.session import Database

PREFIX = "/api/v2"
_BLANKS = " \t"


class Authentication:
    """Answers 401 before anything else is checked, and leaves the caller in the request's state."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._keyring = Keyring(database)

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
        caller = None if secret is None else await self._keyring.caller(secret)
        if caller is None:
            raise Unauthorized
        return caller


def caller_in(scope: Scope) -> Caller | None:
    """The caller that `Authentication` left in a request's scope, or None on paths without a key."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    return caller


def presented(headers: Headers) -> str | None:
    """The one key of a request, or None if it has no key or two different ones.

    Blanks around a key are ignored. An Authorization of another scheme, perhaps a proxy's, is ignored beside an
    X-API-Key.
    """
    found = {value.strip(_BLANKS) for value in headers.getlist("x-api-key")} - {""}
    others_count = not found
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip(_BLANKS).replace("\t", " ").partition(" ")
        if scheme.lower() == "bearer":
            found.add(token.strip(_BLANKS))
        elif others_count:
            return None
    found.discard("")
    return found.pop() if len(found) == 1 else None


async def _of_request(request: Request) -> Caller:  # async: FastAPI would run it in a thread
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_of_request)]
