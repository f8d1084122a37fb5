"""OpenTelemetry: one trace from the request through the workflow to the node, exported where an endpoint is set."""

from __future__ import annotations

import logging
import os

from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def set_up(service: str, log_level: str) -> None:
    """Logging to standard error, and traces with their export where the standard variables name an endpoint."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if any(os.environ.get(name) for name in ENDPOINTS):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def tracer() -> Tracer:
    """The program's tracer."""
    return trace.get_tracer("gpu-orchestrator")


def current_traceparent() -> str | None:
    """The W3C traceparent of the current span."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> object:
    """The context that a traceparent names."""
    return extract({"traceparent": traceparent} if traceparent else {})
