"""Answers of the console: pages with their headers, errors as pages."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Awaitable, Callable, Container
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.console import rendering
from api.console.page import Page
from api.console.texts import N_, language_of
from api.http.errors import Forbidden, Unauthorized, answer_to
from api.middleware import authentication
from api.middleware.authentication import caller_in
from api.middleware.cookies import cookie
from infra.db.access.callers import Caller
from infra.json.off_loop import off_loop
from workflows.domain.role import Role

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
THEME = "console_theme"
THEMES = ("light", "dark")
WORTH_PACKING = 1500
"""Bytes from which an answer is compressed."""
AGAIN_S = 5
"""Seconds after which a browser asks again for a page that could not be had for a while, unless the error says more."""
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
TELLS = {
    400: N_("This address is not understood"),
    429: N_("Too many calls at once"),
    401: N_("You are signed out"),
    403: N_("Your key may not see this page"),
    404: N_("There is nothing here"),
    503: N_("The database does not answer"),
    500: N_("This page could not be made"),
}
ADVICE = {
    400: N_("A filter or a number in it is not possible. Take it away, or begin again."),
    429: N_("Your key calls more often than it may. The page comes back by itself in a moment."),
    401: N_("The session has ended, or its key is no longer valid. Nothing was lost. Sign in again."),
    403: N_("Sign in with a key of another role to see it."),
    404: N_("It may be gone, or belong to another user. Nothing was lost."),
    503: N_("Nothing was lost. The page comes back by itself as soon as the database answers."),
    500: N_("The error is in the log of the API. Nothing was changed. Try again, or go to another page."),
}


async def html(request: Request, text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A page, compressed where the browser takes that."""
    body = text.encode()
    more = {"Cache-Control": "no-store", "Vary": "Accept-Encoding, Accept-Language, Cookie"} | (headers or {})
    if len(body) >= WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        plain = body
        body = await off_loop.run(len(plain), lambda: gzip.compress(plain, 5, mtime=0))
        more["Content-Encoding"] = "gzip"
    return HTMLResponse(body, status, more)


def shell(request: Request, pages: tuple[Page, ...], page: Page | None, content: str, **more: Any) -> str:
    """A page within the frame that all have: the rail, the switches, the dialogs."""
    caller = caller_in(request.scope)
    template = rendering.environment(language_of(request)).get_template("frame.html")
    return template.render(
        content=content,
        page=page,
        pages=[one for one in pages if caller is not None and caller.role in one.roles and one.is_listed],
        caller=caller,
        language=language_of(request),
        theme=theme_of(request),
        here=here(request),
        cluster=request.app.state.context.settings.cluster_id,
        **{"version": "", "title": None} | more,
    )


def theme_of(request: Request) -> str:
    """The theme that the person has chosen, or nothing: the browser's."""
    chosen = cookie(request.scope, THEME)
    return chosen if chosen in THEMES else ""


def here(request: Request) -> str:
    """The path and query of the page, to come back to."""
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")


def way_back(path: str | None) -> str:
    """A path of the console to go on to; never one elsewhere."""
    if path and (path == "/console" or path.startswith(("/console/", "/console?"))) and "\\" not in path:
        return path
    return "/console"


def answered(endpoint: Endpoint, pages: tuple[Page, ...]) -> Endpoint:
    """The endpoint with the headers of every answer, and errors as pages."""

    async def safely(request: Request) -> Response:
        try:
            if (refused := request.scope.get("state", {}).get("refused")) is not None:
                raise refused
            answer = await endpoint(request)
        except Exception as error:  # noqa: BLE001  every failure is a page
            answer = await _failed(request, pages, error)
        answer.headers.update(SAFE)
        return answer

    return safely


async def _failed(request: Request, pages: tuple[Page, ...], error: Exception) -> Response:
    refused = answer_to(error)  # logs what is a bug
    if refused.status_code == 401 and request.method == "GET" and "x-part" not in request.headers:
        if request.headers.get("sec-fetch-site") == "cross-site":  # it may be signed in: no cookie came along
            template = rendering.environment(language_of(request)).get_template("again.html")
            return await html(request, template.render(here=here(request)))
        ended = "&ended=1" if session_in(request) else ""
        return RedirectResponse(f"/console/sign-in?back={quote(here(request), safe='')}{ended}", 303)
    return await error_page(request, pages, refused)


async def error_page(request: Request, pages: tuple[Page, ...], refused: Response) -> Response:
    """A refusal of the API as a page. The browser reloads it if the refusal is temporary."""
    status, headers = refused.status_code, dict[str, str]()
    if "connection" in refused.headers:  # the rest of its body is not read
        headers["Connection"] = refused.headers["connection"]
    if (again := refused.headers.get("retry-after")) is not None:
        headers["Retry-After"] = again
        if request.method == "GET":
            headers["Refresh"] = str(max(int(again), AGAIN_S))
    title = TELLS.get(status, TELLS[500])
    template = rendering.environment(language_of(request)).get_template("error.html")
    content = template.render(status=status, tells=title, advice=ADVICE.get(status, ADVICE[500]))
    return await html(request, shell(request, pages, None, content, title=title), status, headers)


def caller_of(request: Request, roles: Container[Role] = frozenset(Role)) -> Caller:
    """The caller, who must have one of the roles. Raises Unauthorized, Forbidden."""
    caller = caller_in(request.scope)
    if caller is None:
        raise Unauthorized
    if caller.role not in roles:
        raise Forbidden
    return caller


def session_in(request: Request) -> str:
    """The secret of the session, or nothing."""
    return authentication.session_in(request.scope, request.app.state.context.settings.public_url)
