"""OpenTelemetry: one trace from the request through the workflow to the node, exported where an endpoint is set.

Without an endpoint no SDK is loaded and no span exists; a caller's `traceparent` is handed on as it came. What
travels is the W3C `traceparent` alone: baggage of strangers is none of the nodes' business.
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
"""A program that ends waits no longer for its last spans: the collector may be away."""

_W3C = TraceContextTextMapPropagator()
_TRACE = slice(3, 35)  # of a traceparent: version, trace, span, flags
_tracer = trace.get_tracer("gpu-orchestrator")  # a proxy: it looks for the provider when the first span starts


def log_to_stderr(level: str) -> None:
    """What every program of ours logs like; the libraries' own account of each request is left out."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)


def is_on() -> bool:
    """Whether the standard variables name an endpoint, and none of them switches the SDK off."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


@contextmanager
def exported(service: str) -> Iterator[None]:
    """The traces of this process are exported under this service name, if they are at all (`is_on`)."""
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
    """The program's tracer; its spans are nothing where traces are not exported."""
    return _tracer


def describe(**attributes: str | int | None) -> None:
    """Attributes for the current span; `task_id` becomes `task.id`. Never a payload, a result, a token or a key."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(named(attributes))


def named(attributes: dict[str, str | int | None]) -> dict[str, str | int]:
    """Attributes under their exported names, without those that are not known."""
    return {name.replace("_", "."): value for name, value in attributes.items() if value is not None}


def current_traceparent() -> str | None:
    """`traceparent_of` the current span."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str | None:
    """What names a span to others, or the caller's where it is none of ours; None outside of any trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def new_traceparent() -> str:
    """Names a trace that nobody has begun, so that what happens to one task can be joined all the same.

    Marked as sampled: a node that exports its traces while we do not would drop them otherwise.
    """
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def traceparent_in(stored: str | None) -> str | None:
    """The current traceparent where it lies in the trace of the stored one, else the stored one."""
    current = current_traceparent()
    if stored is None or (current is not None and current[_TRACE] == stored[_TRACE]):
        return current
    return stored


def context_of(traceparent: str | None) -> Context:
    """The context in which spans become children of a traceparent; an empty one where it is missing or malformed."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, Context())


@contextmanager
def joined(traceparent: str | None) -> Iterator[None]:
    """Within, the trace of a traceparent goes on; without one nothing changes."""
    if traceparent is None:
        yield
        return
    token = context.attach(context_of(traceparent))
    try:
        yield
    finally:
        context.detach(token)
