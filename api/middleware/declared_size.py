"""Refusals of bodies whose declared size is too large: 400."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.body import MAX_BATCH, MAX_BODY, check_declared
from api.http.errors import BadRequest, answer_to
from api.middleware.authentication import PREFIX

_REPORT = re.compile(rf"POST {PREFIX}/tasks/[^/]+/(result|status)")
_BATCH = ("POST", f"{PREFIX}/tasks/batch")


def largest_body(scope: Scope) -> int:
    """The most bytes that the body of a call may have."""
    return MAX_BATCH if (scope["method"], scope["path"]) == _BATCH else MAX_BODY


class DeclaredSize:
    """Refuses a body whose declared size is too large, from any caller and on any path.

    A node's report is refused by its route too, whose answer does not count: there it may end the attempt that the
    caller holds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                check_declared(headers, largest_body(scope))
            except BadRequest as error:
                if _REPORT.fullmatch(f"{scope['method']} {scope['path']}"):
                    await self._app(scope, receive, _unheard)
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _unheard(message: Message) -> None:
    """Discard an answer."""
