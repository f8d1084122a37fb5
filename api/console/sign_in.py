"""Signing in, by a key or by a link that works once, and out; language and theme."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.console import rendering
from api.console.answers import THEME, THEMES, html, session_in, shell, way_back
from api.console.page import EVERYBODY
from api.console.texts import COOKIE as LANGUAGE
from api.console.texts import LANGUAGES, N_, language_of
from api.dependencies import Context
from api.http.envelope import ok
from api.http.errors import Forbidden, Unauthorized
from api.middleware.authentication import COOKIE, caller_in, from_own_page
from api.middleware.methods import is_head
from infra.db.ops import sessions
from infra.db.ops.sessions import LASTS_S, Session

YEAR_S = 31_536_000
WRONG = N_("This key is not valid: it is unknown, expired or revoked.")
OF_A_NODE = N_(
    "This is the key of a node. The console is for people: use the key of a user, an operator or an administrator."
)
USED = N_("This link has been used, or is older than an hour. Sign in with a key.")


async def form(request: Request) -> Response:
    """The page where a session begins."""
    if caller_in(request.scope) is not None:
        return RedirectResponse(way_back(request.query_params.get("back")), 303)
    return await _form(request, None, 200)


async def sign_in(request: Request) -> Response:
    """Begin a session with a key."""
    context, fields = _context(request), await _own_fields(request)
    caller = await context.keys.caller(fields.get("key", "").strip())
    if caller is None or caller.role not in EVERYBODY:
        return await _form(request, WRONG if caller is None else OF_A_NODE, 403, fields.get("back"))
    session = await context.database.run(lambda c: sessions.begin(c, caller))
    return _begun(request, RedirectResponse(way_back(fields.get("back")), 303), session)


async def enter(request: Request) -> Response:
    """Begin a session with a link. The next page is asked for by our own page: a browser that came from elsewhere would
    not send the cookie, which is strict, along a redirection."""
    if is_head(request.scope) or "prefetch" in request.headers.get("sec-purpose", ""):
        raise Forbidden
    context, link = _context(request), request.query_params.get("link", "")
    is_known = await context.links.caller(link) is not None  # reads of wrong links are batched
    session = await context.database.run(lambda c: sessions.follow(c, link)) if is_known else None
    if session is None:
        return RedirectResponse("/console", 303) if caller_in(request.scope) else await _form(request, USED, 403)
    environment = rendering.environment(language_of(request))
    return _begun(request, await html(request, environment.get_template("entered.html").render()), session)


async def link(request: Request) -> Response:
    """A link for the owner of a key: `make run` prints one."""
    caller = caller_in(request.scope)
    if caller is None:
        raise Unauthorized
    if caller.role not in EVERYBODY:
        raise Forbidden
    made = await _context(request).database.run(lambda c: sessions.link(c, caller))
    return JSONResponse(ok({"path": f"/console/enter?link={quote(made.secret)}"}))


async def sign_out(request: Request) -> Response:
    """End the session."""
    await _own_fields(request)
    context, secret = _context(request), session_in(request)
    await context.database.run(lambda c: sessions.end(c, secret))
    context.sessions.forget(secret)
    answer = RedirectResponse("/console/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/", secure=_is_secure(request), httponly=True, samesite="strict")
    return answer


async def prefer(request: Request) -> Response:
    """Choose the language or the theme."""
    fields = await _own_fields(request)
    answer = RedirectResponse(way_back(fields.get("back")), 303)
    for name, field, values in ((LANGUAGE, "language", tuple(LANGUAGES)), (THEME, "theme", ("", *THEMES))):
        if (value := fields.get(field)) in values:
            answer.set_cookie(name, value or "", max_age=YEAR_S, path="/console", samesite="lax")
    return answer


async def _form(request: Request, wrong: str | None, status: int, back: str | None = None) -> Response:
    template = rendering.environment(language_of(request)).get_template("sign_in.html")
    content = template.render(wrong=wrong, back=way_back(back or request.query_params.get("back")))
    return await html(request, shell(request, (), None, content, title=N_("Sign in")), status)


def _begun(request: Request, answer: Response, session: Session) -> Response:
    answer.set_cookie(
        COOKIE, session.secret, max_age=LASTS_S, path="/", secure=_is_secure(request), httponly=True, samesite="strict"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _is_secure(request: Request) -> bool:
    public = _context(request).settings.public_url or ""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return request.url.scheme == "https" or forwarded == "https" or public.startswith("https://")


async def _own_fields(request: Request) -> dict[str, str]:
    """The fields of a form of our own pages. Raises Forbidden."""
    if not from_own_page(request.headers):
        raise Forbidden
    body = (await request.body()).decode(errors="replace")
    return {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True, max_num_fields=10).items()}


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context
