"""The node protocol over HTTP (NODE_PROTOCOL.md, orchestrator → node)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.node.assignment import BODY_LIMIT, parse_assignment
from workers.node.errors import BadAssignment, NodeError, NoFreeSlot, NotReady, UnservedType
from workers.node.executions import Executions
from workers.node.records import Record

_REASON_LIMIT = 500  # characters
_BODY_TIMEOUT = 10.0  # seconds for a body to arrive
_LONGEST_WAIT = 4.0  # seconds that an answer is held at most: the orchestrator reads it for 4.5
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,9})\s*(?:$|[,;])", re.IGNORECASE)

STATUS_OF: dict[type[NodeError], int] = {
    BadAssignment: HTTPStatus.BAD_REQUEST,
    UnservedType: HTTPStatus.SERVICE_UNAVAILABLE,  # a 422 would say that the input can never work, anywhere
    NoFreeSlot: HTTPStatus.CONFLICT,
    NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
}


def create_app(executions: Executions, secret: str, is_registered: Callable[[], bool]) -> Starlette:
    """The routes; all but the health check need the dispatch secret. `is_registered`: the orchestrator knows it."""
    routes = Routes(executions)
    return Starlette(
        routes=[
            Route("/predictions/{id}", routes.put, methods=["PUT"]),
            Route("/predictions/{id}", routes.get, methods=["GET"]),
            Route("/predictions/{id}/cancel", routes.cancel, methods=["POST"]),
            Route("/health-check", routes.health, methods=["GET"]),
        ],
        middleware=[Middleware(DispatchSecret, secret=secret, is_registered=is_registered)],
        exception_handlers={HTTPException: _http_error, NodeError: _node_error},
    )


class DispatchSecret:
    """401 for whoever does not show the secret that this node registered.

    Before the registration the orchestrator knows an earlier run's secret at most, so a PUT is answered 503, not ready.
    The health check is open: by the protocol it answers 200 always. Callers without the secret see only its status.
    """

    def __init__(self, app: ASGIApp, secret: str, is_registered: Callable[[], bool]) -> None:
        self._app = app
        self._is_registered = is_registered
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = scope["type"] == "http" and self._shown(scope)
        scope.setdefault("state", {})["shown"] = shown
        if scope["type"] != "http" or scope["path"] == "/health-check" or shown:
            await self._app(scope, receive, send)
            return
        await self._refusal(scope["method"])(scope, receive, send)

    def _refusal(self, method: str) -> Response:
        if method == "PUT" and not self._is_registered():
            return JSONResponse({"detail": "the node is not registered yet"}, 503)
        detail = {"detail": "the dispatch secret is missing or wrong"}
        return JSONResponse(detail, 401, {"WWW-Authenticate": "Bearer"})

    def _shown(self, scope: Scope) -> bool:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._expected)


class Routes:
    """One method a route."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def put(self, request: Request) -> Response:
        """Accept an attempt; an id that is known already is answered with its state, and never run again."""
        id = request.path_params["id"]
        body = await _body(request)
        record = self._executions.find(id)
        if record is None:
            record = self._executions.accept(parse_assignment(id, body, request.headers))
        if seconds := _wait(request):
            record = await self._held(record, seconds, request)
        return _state(record, 200 if _decides(record) else 202)

    async def _held(self, record: Record, seconds: float, request: Request) -> Record:
        gone = asyncio.ensure_future(request.receive())  # after the body only the end of the connection comes
        try:
            return await self._executions.hold(record, seconds, gone)
        finally:
            gone.cancel()

    async def get(self, request: Request) -> Response:
        """Show the state of an attempt."""
        return _state(_known(self._executions.find(request.path_params["id"])), 200)

    async def cancel(self, request: Request) -> Response:
        """Stop an attempt. `stopped` says that its process is gone."""
        id = request.path_params["id"]
        record = _known(await self._executions.cancel(id))
        return _state(record, 200, {"stopped": self._executions.has_stopped(id)})

    async def health(self, request: Request) -> Response:
        """Readiness: the state is in the body, and why work can't be started."""
        body, reason = {"status": self._executions.health}, self._executions.reason
        return JSONResponse(body | ({"reason": reason[:_REASON_LIMIT]} if reason and request.state.shown else {}))


class NodeServer(uvicorn.Server):
    """A server for `create_app` that leaves the signals to the agent."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that no connection is refused from here on; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise BadAssignment(f"body: larger than {BODY_LIMIT} bytes")
    except (TimeoutError, ClientDisconnect):
        raise BadAssignment("body: did not arrive") from None
    return bytes(body)


def _wait(request: Request) -> float:
    """The seconds for which the caller prefers to wait for the end (RFC 7240), 0 if it does not say."""
    asked = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(_LONGEST_WAIT, float(asked[1])) if asked else 0.0


def _known(record: Record | None) -> Record:
    if record is None:
        raise HTTPException(404, "this id was never seen here")
    return record


def _decides(record: Record) -> bool:
    """Whether an answer of 200, which the orchestrator takes as the attempt's end, may be given.

    Not for a success whose output cannot travel here: its report, repeated until it is heard, brings the result.
    Nor where the time was up: the orchestrator decides that by its own clock.
    """
    return record.finished and not record.overdue and (record.status != "succeeded" or record.output_fits)


def _state(record: Record, status: int, more: dict[str, bool] | None = None) -> Response:
    """The `output` of a success is absent where it is too large for an answer, or was dropped after its report."""
    fields = {"id": record.id, "status": record.status, "progress": record.progress, "error": record.error}
    text = json.dumps(fields | ({"rejected": True} if record.rejected else {}) | (more or {}))
    if record.status != "succeeded" or record.output_fits:
        text = f'{text[:-1]}, "output": {record.output or "null"}}}'  # it is JSON text already
    return Response(text, status, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _node_error(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS_OF.items() if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status)
