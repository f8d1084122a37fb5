"""Signing in, by a key or by a link that works once, and out; language and theme."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.console import rendering
from api.console.answers import ADVICE, THEME, THEMES, caller_of, html, session_in, shell, way_back
from api.console.page import EVERYBODY
from api.console.texts import COOKIE as LANGUAGE
from api.console.texts import LANGUAGES, N_, language_of
from api.dependencies import Context
from api.http.body import read_bytes
from api.http.envelope import ok
from api.http.errors import BadRequest, Forbidden, TooManyRequests
from api.middleware.authentication import (
    COOKIE,
    SECURE_COOKIE,
    caller_in,
    from_own_page,
    is_presented,
    is_secure,
)
from api.middleware.rate_limit import LocalBuckets
from infra.db.access import sessions
from infra.db.access.sessions import LASTS_S
from infra.resilience.token_bucket import Rate

YEAR_S = 31_536_000
MOST_BYTES = 16 * 1024
"""The largest form that is read."""
FORM_S = 5.0
"""Seconds within which a form comes: anybody may send one."""
OFTEN = Rate(rate=1, burst=30)
"""Sessions that a lineage begins in a process: each is a row, and an entry in the audit log."""
_begun = LocalBuckets()
WRONG = N_("This key is not valid: it is unknown, expired or revoked.")
OF_A_NODE = N_(
    "This is the key of a node. The console is for people: use the key of a user, an operator or an administrator."
)
USED = N_("This link has been used, or is older than an hour. Sign in with a key.")


async def form(request: Request) -> Response:
    """The page where a session begins."""
    back = request.query_params.get("back")
    if caller_in(request.scope) is not None:
        return RedirectResponse(way_back(back), 303)
    return await _form(request, back, note=ADVICE[401] if "ended" in request.query_params else None)


async def sign_in(request: Request) -> Response:
    """Begin a session with a key."""
    context, fields = _context(request), await _own_fields(request)
    back = fields.get("back")
    caller = await context.keys.caller(fields.get("key", "").strip())
    if caller is None or caller.role not in EVERYBODY:
        return await _form(request, back, WRONG if caller is None else OF_A_NODE)
    if (wait := _begun.take(caller.lineage, OFTEN)) > 0:
        raise TooManyRequests(math.ceil(wait))
    session = await context.database.run(lambda c: sessions.begin(c, caller, session_in(request)))
    return _signed_in(request, back, session)


async def enter(request: Request) -> Response:
    """Show whose session the link starts; require a click, because link scanners fetch URLs."""
    link = request.query_params.get("link", "")
    caller = await _context(request).links.caller(link)
    if caller is None:
        is_in = caller_in(request.scope) is not None
        return RedirectResponse("/console", 303) if is_in else await _form(request, wrong=USED)
    template = rendering.environment(language_of(request)).get_template("enter.html")
    content = template.render(owner=caller.owner, role=caller.role, link=link)
    return await html(request, shell(request, (), None, content, title=N_("Sign in")))


async def follow(request: Request) -> Response:
    """Begin a session with a link."""
    context, link = _context(request), (await _own_fields(request)).get("link", "")
    session = None
    if await context.links.caller(link) is not None:
        session = await context.database.run(lambda c: sessions.follow(c, link, session_in(request)))
        context.links.forget(link)
    return await _form(request, wrong=USED) if session is None else _signed_in(request, None, session)


async def link(request: Request) -> Response:
    """A link that signs in the owner of a key; `make run` prints one. A session gets none, or it could renew itself."""
    caller = caller_of(request, EVERYBODY)
    if not is_presented(request.headers):
        raise Forbidden
    secret = await _context(request).database.run(lambda c: sessions.link(c, caller))
    return JSONResponse(ok({"path": f"/console/enter?link={quote(secret)}"}))


async def sign_out(request: Request) -> Response:
    """End the session."""
    await _own_fields(request)
    context, secret = _context(request), session_in(request)
    if caller_in(request.scope) is not None:
        await context.database.run(lambda c: sessions.end(c, secret))
        context.sessions.forget(secret)
    answer = RedirectResponse("/console/sign-in", 303)
    answer.delete_cookie(**_cookie(request))
    return answer


async def prefer(request: Request) -> Response:
    """Choose the language or the theme."""
    fields = await _own_fields(request)
    answer = RedirectResponse(way_back(fields.get("back")), 303)
    for name, field, values in ((LANGUAGE, "language", tuple(LANGUAGES)), (THEME, "theme", ("", *THEMES))):
        if (value := fields.get(field)) in values:
            answer.set_cookie(name, value or "", max_age=YEAR_S, path="/console", samesite="lax")
    return answer


async def _form(
    request: Request, back: str | None = None, wrong: str | None = None, note: str | None = None
) -> Response:
    template = rendering.environment(language_of(request)).get_template("sign_in.html")
    content = template.render(wrong=wrong, note=note, back=way_back(back))
    return await html(request, shell(request, (), None, content, title=N_("Sign in")), 403 if wrong else 200)


def _signed_in(request: Request, back: str | None, session: str) -> Response:
    answer = RedirectResponse(way_back(back), 303, {"Cache-Control": "no-store"})
    answer.set_cookie(value=session, max_age=LASTS_S, **_cookie(request))
    _context(request).sessions.forget(session_in(request))
    return answer


def _cookie(request: Request) -> dict[str, Any]:
    safe = is_secure(request.scope, _context(request).settings.public_url)
    key = SECURE_COOKIE if safe else COOKIE
    return {"key": key, "path": "/", "secure": safe, "httponly": True, "samesite": "strict"}


async def _own_fields(request: Request) -> dict[str, str]:
    """The fields of a form of our own pages. Raises Forbidden, BadRequest."""
    if not from_own_page(request.headers):
        raise Forbidden
    body = (await read_bytes(request, MOST_BYTES, FORM_S)).decode(errors="replace")
    try:
        fields = parse_qs(body, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise BadRequest("body", "无效") from None
    return {name: values[-1] for name, values in fields.items()}


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context
