"""The one reader of cookies. It unquotes nothing, since Python's own unquoting takes seconds for a long header."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send


class Cookies:
    """Takes the Cookie header out of a request, and leaves its values to `cookie`: FastAPI would read it for every
    route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            others = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
            scope = {**scope, "headers": others, "cookies": _read(scope["headers"])}
        await self._app(scope, receive, send)


def cookie(scope: Scope, name: str) -> str:
    """The value of a cookie as it is written, or nothing."""
    found: dict[str, str] = scope["cookies"] if "cookies" in scope else _read(scope["headers"])
    return found.get(name, "")


def _read(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    lines = [value.decode("latin-1") for name, value in headers if name == b"cookie"]
    pairs = [one.partition("=") for line in lines for one in line.split(";")]
    return {name.strip(): value.strip() for name, _, value in pairs}
