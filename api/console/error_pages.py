"""Refusals of the middleware and unknown paths below /console are pages too, like all other errors."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.console.answers import SAFE, error_page
from api.console.pages import PAGES
from api.middleware.authentication import CONSOLE


class ErrorPages:
    """Answers a page instead of a refusal in the envelope of the API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{CONSOLE}/"):
            await self._app(scope, receive, send)
            return
        refused: Response | None = None

        async def sending(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = _refusal(message)
            if refused is None:
                await send(message)

        await self._app(scope, receive, sending)
        if refused is not None:
            page = await error_page(Request(scope), PAGES, refused)
            page.headers.update(SAFE)
            await page(scope, receive, send)


def _refusal(start: Message) -> Response | None:
    """The answer that begins, if it is an error in the envelope."""
    answer = Response(status_code=start["status"])
    answer.raw_headers = start["headers"]
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer if answer.status_code >= 400 and is_json else None
