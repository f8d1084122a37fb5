"""Export where an endpoint is set, nothing otherwise; in processes of their own, since a provider is for life."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from infra import telemetry
from infra.temporal.access import interceptors
from tests.collector import Collector

STORED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = """
import sys, threading
from infra import telemetry
with telemetry.exported("a-service"):
    with telemetry.joined("%s"), telemetry.tracer().start_as_current_span("a span"):
        telemetry.describe(task_id="t1", gpu_id=None)
        print(telemetry.current_traceparent())
    print("opentelemetry.sdk" in sys.modules, threading.active_count())
"""


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.stop()


async def run(**environment: str) -> list[str]:
    """The lines that PROGRAM prints; its batches would take a minute to go by themselves."""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", PROGRAM % STORED),
        env={**foreign, "OTEL_BSP_SCHEDULE_DELAY": "60000", **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


async def test_with_an_endpoint_even_the_last_span_is_exported(collector: Collector) -> None:
    seen, parts = await run(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    (span,) = collector.spans
    assert (span.service, span.name, span.attributes) == ("a-service", "a span", {"task.id": "t1"})
    assert f"00-{span.trace}-{span.parent}-01" == STORED
    assert seen == f"00-{span.trace}-{span.id}-01"
    assert parts.startswith("True")


@pytest.mark.parametrize("disabled", [False, True])
async def test_otherwise_no_sdk_is_loaded_and_the_trace_is_handed_on(collector: Collector, disabled: bool) -> None:
    extra = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "true"} if disabled else {}
    assert await run(**extra) == [STORED, "False 1"]
    assert collector.spans == []


async def test_a_collector_that_is_away_does_not_keep_a_program_from_ending() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection and never answers
        began = time.monotonic()
        await run(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/traces")
        assert (
            time.monotonic() - began < telemetry.FLUSH_S + 5
        )  # a start takes its time; the export's own limit is 10 s


@pytest.mark.parametrize(("endpoint", "count"), [("", 0), ("http://127.0.0.1:9", 1)])
def test_workflows_are_intercepted_only_with_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, count: int
) -> None:
    for name in (*telemetry.ENDPOINTS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    assert len(interceptors()) == count


def test_the_current_span_counts_only_within_the_stored_trace() -> None:
    trace, span = int(STORED[3:35], 16), 0x1234
    own = NonRecordingSpan(SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(1)))
    foreign = NonRecordingSpan(SpanContext(trace + 1, span, is_remote=False, trace_flags=TraceFlags(1)))
    assert telemetry.traceparent_in(None) is None
    assert telemetry.traceparent_in(STORED) == STORED
    with use_span(own):
        assert telemetry.traceparent_in(STORED) == f"{STORED[:36]}{span:016x}-01"
    with use_span(foreign):
        assert telemetry.traceparent_in(STORED) == STORED
        assert telemetry.traceparent_in(None) == telemetry.current_traceparent()


def test_a_new_traceparent_is_valid_and_new() -> None:
    first, second = telemetry.new_traceparent(), telemetry.new_traceparent()
    assert first != second
    with telemetry.joined(first):
        assert telemetry.current_traceparent() == first
    assert telemetry.current_traceparent() is None
