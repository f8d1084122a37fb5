"""The request's target: path and query are UTF-8 (specification, 字符编码), or the request is refused."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import BadRequest


class Utf8Target:
    """Raises BadRequest for another encoding, which would otherwise be stored as replacement characters."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _check(scope["raw_path"])
            _check(scope["query_string"])
        await self._app(scope, receive, send)


def _check(encoded: bytes) -> None:
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise BadRequest("URL", "不是合法的UTF-8") from None
