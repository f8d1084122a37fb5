"""HEAD and OPTIONS of every path, and CORS: what a browser asks before it calls from another origin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.envelope import ok

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
TAKEN = (
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Idempotency-Key",
    "X-Attempt-Token",
    "X-Registration",
    "Prefer",
    "Last-Event-ID",
    "traceparent",
)
"""Headers that a page of another origin may send."""
SHOWN = (
    "X-Total-Count",
    "X-Total-Count-Exact",
    "Link",
    "Retry-After",
    "X-Next-Cursor",
    "X-Registration",
    "Preference-Applied",
)
"""Headers that it may read."""


class HeadAsGet:
    """Answers HEAD as it answers GET, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope.setdefault("state", {})["is_head"] = True
            await self._app({**scope, "method": "GET"}, receive, without_body)
        else:
            await self._app(scope, receive, send)


def is_head(scope: Scope) -> bool:
    """Whether the client sent HEAD, which is answered as GET: an endless stream then ends at once."""
    return bool(scope.get("state", {}).get("is_head"))


class Cors(CORSMiddleware):
    """Lets pages of some origins call and read every answer. Other origins get no CORS headers.

    Cookies and other browser credentials are not used: a page sends its own key, so even `*` gives nothing away. A
    preflight from an allowed origin is always answered 200, and the browser compares.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=TAKEN, expose_headers=SHOWN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is not None and self.is_allowed_origin(origin):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        headers = dict(self.preflight_headers)
        headers.setdefault("Access-Control-Allow-Origin", request_headers["origin"])
        return JSONResponse(ok(None), headers=headers)


class Options:
    """Answers OPTIONS with the methods of a path (RFC 9110, 9.3.7); unknown paths stay unknown."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], prefix: str, below: Iterable[BaseRoute]) -> None:
        """`below` are routes whose paths begin with `prefix`."""
        self._app = app
        known = [(one.path, one.methods) for one in routes if isinstance(one, Route)]
        known += [(prefix + one.path, one.methods) for one in below if isinstance(one, Route)]
        self._paths = [(path, compile_path(path)[0], methods or set()) for path, methods in known]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = self._of(scope["path"]) if scope["type"] == "http" and scope["method"] == "OPTIONS" else []
        if allowed:
            await JSONResponse(ok(None), headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _of(self, path: str) -> list[str]:
        if path == "*":
            return list(METHODS)
        own = [methods for one, _, methods in self._paths if one == path]  # else that of a path with parameters
        like = own or [methods for _, pattern, methods in self._paths if pattern.match(path)]
        found = {method for methods in like for method in methods}
        there = found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())
        return [method for method in METHODS if found and method in there]
