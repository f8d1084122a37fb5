"""HEAD, OPTIONS, and calls from pages of other origins (CORS), on the application as it is assembled."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock, patch

import httpx
import psutil
import pytest

from api.app import ROUTERS, create_app
from api.middleware.authentication import PREFIX
from api.middleware.methods import HeadAsGet, Options
from infra.settings import Settings

OURS, OTHER = "https://console.example.org", "https://evil.example.org"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}


async def ask(method: str, path: str, origins: str = OURS, **headers: str) -> httpx.Response:
    context = MagicMock(settings=Settings(cors_origins=origins))
    transport = httpx.ASGITransport(app=create_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.request(method, path, headers=headers)


def cors(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


async def preflight(origin: str, origins: str = OURS, **asks: str) -> httpx.Response:
    return await ask("OPTIONS", "/api/v2/tasks", origins, Origin=origin, **{**ASKS, **asks})


async def test_a_preflight_of_an_allowed_origin_needs_no_key() -> None:
    response = await preflight(OURS)
    assert (response.status_code, response.json()) == (200, {"code": 200, "message": "success", "data": None})
    allowed = cors(response)
    assert allowed["access-control-allow-origin"] == OURS
    assert {"GET", "POST", "PATCH", "DELETE", "HEAD"} <= set(allowed["access-control-allow-methods"].split(", "))
    headers = allowed["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "x-api-key", "content-type", "idempotency-key", "x-attempt-token", "prefer"} <= set(
        headers
    )
    assert "traceparent" in headers
    assert "access-control-allow-credentials" not in allowed
    assert "Origin" in response.headers["vary"]


async def test_a_preflight_for_more_gets_the_same_lists() -> None:
    """The browser compares."""
    response = await preflight(
        OURS, **{"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a"}
    )
    assert response.status_code == 200
    assert cors(response) == cors(await preflight(OURS))


@pytest.mark.parametrize(
    ("origin", "origins"),
    [
        (OTHER, OURS),
        (OURS, ""),
        ("null", OURS),
        (OURS + ":8443", OURS),
        (OURS.replace("https", "http"), OURS),
        (OURS + ".evil.org", OURS),
    ],
)
async def test_another_origin_gets_no_headers(origin: str, origins: str) -> None:
    for response in (
        await preflight(origin, origins),
        await ask("GET", "/healthz", origins, Origin=origin),
        await ask("GET", "/api/v2/tasks", origins, Origin=origin),
    ):
        assert cors(response) == {}
        assert response.status_code == (200 if response.url.path == "/healthz" else 401)


@pytest.mark.parametrize("origins", [OURS, f"http://localhost:3000, {OURS}", "*"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/api/v2/tasks", 401), ("POST", "/api/v2/none", 401), ("GET", "/none", 404)],
)
async def test_answers_and_errors_can_be_read_by_an_allowed_origin(
    method: str, path: str, status: int, origins: str
) -> None:
    response = await ask(method, path, origins, Origin=OURS)
    assert response.status_code == status
    allowed = cors(response)
    assert allowed["access-control-allow-origin"] == ("*" if origins == "*" else OURS)
    shown = set(allowed["access-control-expose-headers"].split(", "))
    assert {"X-Total-Count", "Link", "Retry-After", "X-Next-Cursor"} <= shown
    assert "access-control-allow-credentials" not in allowed


async def test_a_bug_can_be_read_too() -> None:
    response = await ask("GET", "/readyz", Origin=OURS)  # nothing there answers as it should
    assert response.status_code >= 500
    assert cors(response)["access-control-allow-origin"] == OURS


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/openapi.json", 200), ("/api/v2/tasks", 401), ("/none", 404), ("/docs", 200)],
)
async def test_head_is_get_without_a_body(path: str, status: int) -> None:
    plain = {"Accept-Encoding": "identity"}
    get, head = await ask("GET", path, **plain), await ask("HEAD", path, **plain)
    assert (head.status_code, get.status_code, head.content) == (status, status, b"")
    assert head.headers == get.headers
    assert int(head.headers["content-length"]) == len(get.content) > 0


async def test_who_calls_is_known_outside_of_head_too() -> None:
    """The server keeps the connections of known callers before those of others."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["caller"] = "caller"

    scope = {"type": "http", "method": "HEAD", "state": dict[str, Any]()}
    await HeadAsGet(app)(scope, MagicMock(), MagicMock())
    assert scope["state"] == {"is_head": True, "caller": "caller"}


async def test_a_slow_reader_of_the_docs_holds_no_open_file() -> None:
    """All connections together would use up the process' files, and no further one could be accepted."""
    begun, path = asyncio.Event(), "/docs/assets/swagger-ui-bundle.js"

    async def send(message: Any) -> None:
        if message.get("body"):
            begun.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": b"", "query_string": b"", "headers": []}
    app = create_app(MagicMock(settings=Settings()))
    reading = asyncio.create_task(app(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
    await begun.wait()
    assert not [one.path for one in psutil.Process().open_files() if "swagger" in one.path]
    reading.cancel()
    await asyncio.wait({reading})


async def test_the_openapi_document_is_rendered_once() -> None:
    transport = httpx.ASGITransport(app=create_app(MagicMock(settings=Settings())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        first = await http.get("/openapi.json")
        with patch("starlette.responses.json.dumps", side_effect=AssertionError):
            again, plain = [await http.get("/openapi.json", headers=one) for one in ({}, {"Accept-Encoding": "x"})]
    assert first.json() == again.json() == plain.json()
    assert [one.headers.get("content-encoding") for one in (first, again, plain)] == ["gzip", "gzip", None]


@pytest.mark.parametrize(
    ("path", "status", "allow"),
    [
        ("/healthz", 200, "GET, HEAD, OPTIONS"),
        ("/docs", 200, "GET, HEAD, OPTIONS"),
        ("/none", 404, None),
        ("/api/v2/tasks", 401, None),
    ],
)
async def test_options_list_the_methods(path: str, status: int, allow: str | None) -> None:
    response = await ask("OPTIONS", path)
    assert (response.status_code, response.json()["code"], response.headers.get("allow")) == (status, status, allow)
    response = await ask("OPTIONS", path, Origin=OURS)  # it asks for no method: no preflight
    assert response.headers.get("allow") == allow


async def test_no_setting_no_cors() -> None:
    answers: Any = [await ask("GET", "/healthz", "", Origin=OURS), await preflight(OURS, "")]
    assert [cors(answer) for answer in answers] == [{}, {}]


def test_a_path_of_its_own_has_its_own_methods() -> None:
    """It also looks like one with a parameter, whose methods are not its."""
    below = [route for router in ROUTERS for route in router.routes]
    options = Options(MagicMock(), [], PREFIX, below)
    assert options._of("/api/v2/monitoring/health/check") == ["POST", "OPTIONS"]
    assert options._of("/api/v2/monitoring/health/gpu") == ["GET", "HEAD", "OPTIONS"]
    assert options._of("/api/v2/gpus/register") == ["POST", "OPTIONS"]
