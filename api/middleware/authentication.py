"""Authentication by Bearer token or X-API-Key: on /metrics, and below /api/v2, known or not (specification, 认证说明).

A browser at the console has a cookie instead: its session's caller is that of the session's key. A cookie counts only
for calls that the console's own pages make, so that no other page can write in a person's name.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import Forbidden, Unauthorized, answer_to
from api.middleware.cookies import cookie
from infra.db.access.callers import Caller
from infra.db.access.keyring import Keyring

PREFIX = "/api/v2"
CONSOLE = "/console"
COOKIE, SECURE_COOKIE = "console_session", "__Host-console_session"
"""Cookies of a session. Behind HTTPS it has the prefix that no other host of the domain can set."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
METRICS = "/metrics"
_BLANKS = " \t"


class Authentication:
    """Answers 401 before anything else is checked, and leaves the caller in the request's state.

    Below /console a call goes on without a caller, to the page where a session begins, or to one that says what failed.
    A body that ends after its key answers 401 too: it may come slowly, and a revocation counts within two seconds.
    """

    def __init__(self, app: ASGIApp, keys: Keyring, sessions: Keyring, public_url: str | None = None) -> None:
        self._app = app
        self._keys = keys
        self._sessions = sessions
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_console = _is_below(scope, CONSOLE) and not _is_below(scope, f"{CONSOLE}/static")
        if is_console or _is_below(scope, PREFIX) or _is_below(scope, METRICS):
            try:
                caller = await self._caller(scope, Headers(scope=scope))
                if caller is None and not is_console:
                    raise Unauthorized
            except Exception as error:  # noqa: BLE001  every failure is an answer in the envelope, or a page
                if not is_console:
                    await answer_to(error)(scope, receive, send)
                    return
                caller, scope.setdefault("state", {})["refused"] = None, error
            if caller is not None:
                scope.setdefault("state", {})["caller"] = caller
                if scope["method"] not in READS and not is_console:
                    receive = self._while_live(scope, receive)
        await self._app(scope, receive, send)

    def _while_live(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that raises Unauthorized at the end of a body, unless the caller is still one."""

        async def received() -> Message:
            message = await receive()
            is_end = message["type"] == "http.request" and not message.get("more_body", False)
            if is_end and await self._caller(scope, Headers(scope=scope)) is None:
                raise Unauthorized
            return message

        return received

    async def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        secret = presented(headers)
        if secret is not None or is_presented(headers):
            return None if secret is None else await self._keys.caller(secret)
        session = session_in(scope, self._public_url)
        if not session:
            return None
        caller = await self._sessions.caller(session)
        if caller is not None and scope["method"] not in READS and not from_own_page(headers):
            raise Forbidden("权限不足: 仅允许控制台自己的页面使用会话")
        return caller


def session_in(scope: Scope, public_url: str | None) -> str:
    """The secret of the browser's session, or nothing."""
    return cookie(scope, SECURE_COOKIE if is_secure(scope, public_url) else COOKIE)


def is_secure(scope: Scope, public_url: str | None) -> bool:
    """Whether the browser uses https, perhaps to a proxy before us."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (scope["scheme"], forwarded) or (public_url or "").startswith("https://")


def from_own_page(headers: Headers) -> bool:
    """Whether a page of this very origin makes the call. Browsers say so; what says nothing is no browser."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    place = headers.get("origin", "").partition("://")[2]
    return place != "" and place.lower() == headers.get("host", "").lower()


def caller_in(scope: Scope) -> Caller | None:
    """The caller that `Authentication` left in a request's scope, or None on paths without a key."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    return caller


def _is_below(scope: Scope, prefix: str) -> bool:
    return scope["type"] == "http" and f"{scope['path']}/".startswith(f"{prefix}/")


def presented(headers: Headers) -> str | None:
    """The one key of a request, or None if it has no key or two different ones.

    Blanks around a key are ignored. An Authorization of another scheme, perhaps a proxy's, is ignored next to an
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


def is_presented(headers: Headers) -> bool:
    """Whether a key is meant to be presented, valid or not. A proxy's Authorization of another scheme is none."""
    schemes = [value.split()[:1] for value in headers.getlist("authorization")]
    return "x-api-key" in headers or any(scheme and scheme[0].lower() == "bearer" for scheme in schemes)


async def _of_request(request: Request) -> Caller:  # async: FastAPI would run it in a thread
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_of_request)]
