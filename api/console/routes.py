"""The console's routes, on the application of the API: `/console` and everything below."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from fastapi import FastAPI
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, compile_path

from api.console import assets, pictures, rendering, sign_in
from api.console.answers import Endpoint, answered, caller_of, html, session_in, shell
from api.console.live import Screen, Screens
from api.console.page import Asked, Page
from api.console.pages import PAGES
from api.console.texts import language_of
from api.dependencies import Context
from api.http.errors import BadRequest, Forbidden, NotFound, TooManyRequests
from api.middleware.authentication import CONSOLE
from api.middleware.in_flight import turn_of
from api.middleware.methods import is_head
from api.middleware.target import MAX_PARAMETERS
from api.routes.streams import Stream
from infra.db.access.callers import Caller
from infra.events.allowance import Spent
from infra.json.strict_json import UNPRINTABLE
from workflows.domain.role import Role

AT_ONCE = {Role.USER: 8}
"""Open pages of a user's keys in one process: each may be a screen of its own, rendered about once a second."""
_PATHS: list[tuple[Page, re.Pattern[str]]] = [(page, compile_path(CONSOLE + page.path)[0]) for page in PAGES]


def install(app: FastAPI, context: Context) -> None:
    """Add the console."""
    screens = Screens()
    rendering.warm()

    def add(path: str, endpoint: Endpoint, method: str = "GET") -> None:
        app.router.routes.append(Route(CONSOLE + path, answered(endpoint, PAGES), methods=[method]))

    add("/static/{name}", assets.asset)
    add("/sign-in", sign_in.form)
    add("/sign-in", sign_in.sign_in, "POST")
    add("/sign-out", sign_in.sign_out, "POST")
    add("/enter", sign_in.enter)
    add("/enter", sign_in.follow, "POST")
    add("/links", sign_in.link, "POST")
    add("/preferences", sign_in.prefer, "POST")
    add("/live", _live(context, screens))
    add("/tasks/{task_id}/pictures/{document}/{number}", pictures.picture)
    for page in PAGES:
        add(page.path, _page(context, screens, page))
    add("", _first)
    add("/{rest:path}", _nothing)


def _page(context: Context, screens: Screens, page: Page) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        caller = caller_of(request, page.roles)
        asked = _asked(context, caller, request.path_params, request.query_params, request)
        shown = await screens.of(page, asked).shown()
        if "x-part" in request.headers:  # the script asks only for the content
            return await html(request, shown.html, headers={"X-Version": shown.version})
        return await html(request, shell(request, PAGES, page, shown.html, version=shown.version))

    return endpoint


def _live(context: Context, screens: Screens) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        caller = caller_of(request)
        screen = _screen(context, screens, request, caller)
        await screen.shown()  # what cannot be shown has no stream
        try:
            place = context.streams.take(f"console {caller.lineage}", AT_ONCE.get(caller.role))
        except Spent:
            raise TooManyRequests from None
        turn_of(request).give_back()
        secret = session_in(request)
        if is_head(request.scope):
            place.close()
            return Response(media_type="text/event-stream")

        async def lives() -> bool:
            return not secret or await context.sessions.caller(secret) is not None

        version = request.query_params.get("version", "")
        return Stream(screen.frames(context.hub, caller.key_id, version, lives), place)

    return endpoint


def _screen(context: Context, screens: Screens, request: Request, caller: Caller) -> Screen:
    """The screen of the page that the browser shows. Raises NotFound, Forbidden."""
    path, query = _address(request.query_params.get("of", ""))
    for page, pattern in _PATHS:
        if (found := pattern.match(path)) is not None:
            if caller.role not in page.roles:
                raise Forbidden
            return screens.of(page, _asked(context, caller, found.groupdict(), query, request))
    raise NotFound


def _address(of: str) -> tuple[str, QueryParams]:
    """The path and query of a page's address. Raises NotFound."""
    try:
        parts = urlsplit(of)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise NotFound from None
    return unquote(parts.path), QueryParams(pairs)


def _asked(context: Context, caller: Caller, path: Mapping[str, str], query: QueryParams, request: Request) -> Asked:
    """The page that is asked for. Raises NotFound and BadRequest for control characters, which no name has."""
    if any(UNPRINTABLE.search(value) for value in path.values()):
        raise NotFound
    if any(map(UNPRINTABLE.search, [*query.keys(), *query.values()])):
        raise BadRequest("query", "含有不允许的字符")
    return Asked(context, caller, dict(path), query, language_of(request))


async def _first(request: Request) -> Response:
    """The first page that the caller may see."""
    caller = caller_of(request)
    there = next((page.path for page in PAGES if caller.role in page.roles and page.is_listed), None)
    if there is None:
        raise Forbidden
    return RedirectResponse(CONSOLE + there, 303)


async def _nothing(request: Request) -> Response:
    caller_of(request)
    raise NotFound
