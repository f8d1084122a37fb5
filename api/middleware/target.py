"""The request's target: refused unless it is UTF-8 (specification, 字符编码) and gives each parameter once."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import BadRequest
from api.http.places import shown

MOST_PARAMETERS = 100


class Utf8Target:
    """Raise BadRequest for another encoding, which would be stored as replacement characters, for a repeated
    parameter, since it is ambiguous which of the two is meant, and for more parameters than any call has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _check(scope["raw_path"])
            _check(scope["query_string"])
            _check_names(scope["query_string"])
        await self._app(scope, receive, send)


def _check(encoded: bytes) -> None:
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise BadRequest("URL", "不是合法的UTF-8") from None


def _check_names(query: bytes) -> None:
    if query.count(b"&") >= MOST_PARAMETERS:
        raise BadRequest("URL", f"超过 {MOST_PARAMETERS} 个参数")
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise BadRequest(shown(twice, "URL"), "重复")
