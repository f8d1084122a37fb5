"""OpenTelemetry: one trace from the request through the workflow to the node, exported if an endpoint is set.

Without an endpoint no SDK is loaded and no span exists; a caller's `traceparent` is passed on unchanged. Only the W3C
`traceparent` travels: a stranger's baggage is not passed to nodes.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_S = 1.0
"""Seconds for which an ending program waits for its last spans: the collector may be away."""

_W3C = TraceContextTextMapPropagator()
_TRACE = slice(3, 35)  # of a traceparent: version, trace, span, flags
_tracer = trace.get_tracer("gpu-orchestrator")  # a proxy: it looks for the provider when the first span starts


def log_to_stderr(level: str) -> None:
    """Set up logging for every program, without the libraries' own line for each request."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)


def is_on() -> bool:
    """Whether the standard variables name an endpoint, and none of them switches the SDK off."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


@contextmanager
def exported(service: str) -> Iterator[None]:
    """Export the traces of this process under a service name, if traces are exported (`is_on`)."""
    if not is_on():
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(FLUSH_S)


def tracer() -> Tracer:
    """The program's tracer. Its spans do nothing if traces are not exported."""
    return _tracer


def describe(**attributes: str | int | None) -> None:
    """Set attributes of the current span; `task_id` becomes `task.id`. Never a payload, a result, a token or a key."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(named(attributes))


def named(attributes: dict[str, str | int | None]) -> dict[str, str | int]:
    """Attributes under their exported names, without unknown values."""
    return {name.replace("_", "."): value for name, value in attributes.items() if value is not None}


def current_traceparent() -> str | None:
    """`traceparent_of` the current span."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str | None:
    """The traceparent of a span, or the caller's if the span is not ours; None outside any trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def new_traceparent() -> str:
    """A traceparent for a task without a trace, so that the events of one task can be joined.

    It is marked as sampled: otherwise a node that exports its traces while we do not would drop them.
    """
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_of_new() -> str:
    """The traceparent of a new task: the current one, or a new one."""
    return current_traceparent() or new_traceparent()


def traceparent_in(stored: str | None) -> str | None:
    """The current traceparent if it is in the stored one's trace, otherwise the stored one."""
    current = current_traceparent()
    if stored is None or (current is not None and current[_TRACE] == stored[_TRACE]):
        return current
    return stored


def context_of(traceparent: str | None) -> Context:
    """The context in which spans become children of a traceparent; empty if that is missing or malformed."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, Context())


@contextmanager
def joined(traceparent: str | None) -> Iterator[None]:
    """A context that continues the trace of a traceparent; without one nothing changes."""
    if traceparent is None:
        yield
        return
    token = context.attach(context_of(traceparent))
    try:
        yield
    finally:
        context.detach(token)
