"""The request's target: refused unless it is UTF-8 (specification, 字符编码) and gives few parameters, each once."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import BadRequest
from api.http.fault_places import shown

MAX_PARAMETERS = 100


class Utf8Target:
    """Raise BadRequest for bytes that are not UTF-8, which would be stored as replacement characters; for a repeated
    parameter, which is ambiguous; and for more than `MAX_PARAMETERS`, since they are read several times."""

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
    if query.count(b"&") >= MAX_PARAMETERS:
        raise BadRequest("URL", f"参数超过 {MAX_PARAMETERS} 个")
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise BadRequest(shown(twice, "URL"), "重复")
