"""A span for each request, in the trace that the caller's `traceparent` names.

FastAPI's own instrumentation exports query strings, accepts baggage, and cannot pass on a trace that it does not
record.
"""

from __future__ import annotations

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.authentication import PREFIX
from infra import telemetry

UNASKED = ("/heartbeat", "/healthz", "/readyz", "/stream")
"""Ends of paths that are polled or open forever: traced only if the caller brings a trace."""
PATH_PARAMETERS = {"taskId": "task.id", "gpuId": "gpu.id"}
LONGEST = 256  # characters of what a caller chose


class Tracing:
    """The outermost layer, so that it sees the status that is sent."""

    def __init__(self, app: ASGIApp, tracer: Tracer, *, records: bool) -> None:
        """`records` is whether the tracer does; otherwise a caller's traceparent is only passed on."""
        self._app = app
        self._tracer = tracer
        self._records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        traceparent = _traceparent(scope) if scope["type"] == "http" else None
        if traceparent is not None:
            with telemetry.joined(traceparent):
                await (self._trace if self._records else self._app)(scope, receive, send)
        elif self._records and scope["type"] == "http" and not scope["path"].endswith(UNASKED):
            await self._trace(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"][:LONGEST]}
        with self._tracer.start_as_current_span(
            scope["method"],
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its text may quote what the caller sent
            set_status_on_exception=False,
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _answered(span, message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise
            finally:
                _name(span, scope)


def _traceparent(scope: Scope) -> str | None:
    """The header, if it occurs exactly once, as W3C Trace Context requires. A long one would be logged."""
    values = [value for name, value in scope["headers"] if name == b"traceparent"]
    return values[0].decode("latin-1") if len(values) == 1 and len(values[0]) <= LONGEST else None


def _answered(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _failed(span, str(status))


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _name(span: Span, scope: Scope) -> None:
    """Attributes known after routing: the route, and the ids in its path."""
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        route = PREFIX + route if scope["path"].startswith(PREFIX) and not route.startswith(PREFIX) else route
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    for parameter, value in scope.get("path_params", {}).items():
        if parameter in PATH_PARAMETERS:
            span.set_attribute(PATH_PARAMETERS[parameter], str(value)[:LONGEST])
