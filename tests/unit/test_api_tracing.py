"""The middleware: one span a request, in its caller's trace, and nothing in it that must not leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode, Tracer

from api.http.errors import BadRequest, install
from api.middleware.authentication import PREFIX
from api.middleware.error_shield import ErrorShield
from api.middleware.tracing import Tracing
from infra import telemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def application(tracer: Tracer, *, records: bool) -> FastAPI:
    router = APIRouter(prefix="/tasks")

    @router.get("/{taskId}")
    async def get_task(taskId: str) -> dict[str, str | None]:
        telemetry.describe(task_type=7, gpu_id=None)
        return {"seen": telemetry.current_traceparent()}

    @router.get("/{taskId}/bad")
    async def bad(taskId: str) -> None:
        raise BadRequest("taskId", "无效")

    @router.get("/{taskId}/bug")
    async def bug(taskId: str) -> None:
        raise RuntimeError("a secret")

    app = FastAPI()
    app.include_router(router, prefix=PREFIX)
    for path in ("/healthz", f"{PREFIX}/gpus/{{gpuId}}/heartbeat"):
        app.add_api_route(path, lambda: None)
    install(app)
    app.add_middleware(ErrorShield)
    app.add_middleware(Tracing, tracer=tracer, records=records)
    return app


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(exporter: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with client(application(provider.get_tracer("test"), records=True)) as http:
        yield http


@pytest.fixture
async def untraced() -> AsyncIterator[httpx.AsyncClient]:
    async with client(application(NoOpTracer(), records=False)) as http:
        yield http


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_continues_the_trace_of_its_caller(traced, exporter) -> None:
    answer = await traced.get(f"{PREFIX}/tasks/t1", headers={"traceparent": TRACEPARENT})
    span = only(exporter)
    assert (span.name, span.kind) == (f"GET {PREFIX}/tasks/{{taskId}}", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert answer.json()["seen"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": f"{PREFIX}/tasks/{{taskId}}",
        "url.path": f"{PREFIX}/tasks/t1",
        "task.id": "t1",
        "task.type": 7,
    }


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "")],
        [("traceparent", "00-zz-zz-01")],
        [("traceparent", f"00-{'0' * 32}-{PARENT}-01")],
        [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)],
        [("baggage", "secret=1"), ("tracestate", "a=b")],
    ],
)
async def test_without_one_valid_traceparent_a_request_begins_a_trace(traced, exporter, headers) -> None:
    await traced.get(f"{PREFIX}/tasks/t1", headers=headers)
    span = only(exporter)
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE


async def test_a_long_traceparent_is_not_logged(traced, caplog) -> None:
    """Anybody may send one with each request."""
    await traced.get("/healthz", headers={"traceparent": "0" * 30_000})
    assert caplog.text == ""


async def test_a_caller_that_does_not_sample_is_heeded(traced, exporter) -> None:
    answer = await traced.get(f"{PREFIX}/tasks/t1", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert exporter.get_finished_spans() == ()
    assert answer.json()["seen"].startswith(f"00-{TRACE}-")
    assert answer.json()["seen"].endswith("-00")


@pytest.mark.parametrize("path", ["/healthz", f"{PREFIX}/gpus/g1/heartbeat"])
async def test_what_is_called_for_ever_is_traced_only_when_asked(traced, exporter, path) -> None:
    await traced.get(path)
    assert exporter.get_finished_spans() == ()
    await traced.get(path, headers={"traceparent": TRACEPARENT})
    assert only(exporter).name.startswith("GET ")


async def test_a_refusal_is_no_error_of_ours(traced, exporter) -> None:
    assert (await traced.get(f"{PREFIX}/tasks/t1/bad")).status_code == 400
    span = only(exporter)
    assert (attributes(span)["http.response.status_code"], span.status.status_code) == (400, StatusCode.UNSET)


async def test_a_bug_is_an_error_without_its_text(traced, exporter) -> None:
    assert (await traced.get(f"{PREFIX}/tasks/t1/bug")).status_code == 500
    span = only(exporter)
    assert (attributes(span)["error.type"], span.status.status_code) == ("500", StatusCode.ERROR)
    assert "secret" not in span.to_json()


async def test_an_unknown_path_makes_no_name_of_its_own(traced, exporter) -> None:
    await traced.get(f"{PREFIX}/nowhere/{'x' * 1000}")
    span = only(exporter)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)
    assert len(attributes(span)["url.path"]) == 256


async def test_neither_headers_nor_the_query_are_exported(traced, exporter) -> None:
    headers = {"Authorization": "Bearer a-secret", "X-API-Key": "a-secret", "X-Attempt-Token": "a-secret"}
    await traced.get(f"{PREFIX}/tasks/t1?api_key=a-secret", headers=headers)
    assert "a-secret" not in only(exporter).to_json()


async def test_without_spans_a_traceparent_is_handed_on_as_it_came(untraced) -> None:
    answer = await untraced.get(f"{PREFIX}/tasks/t1", headers={"traceparent": TRACEPARENT})
    assert answer.json()["seen"] == TRACEPARENT
    assert (await untraced.get(f"{PREFIX}/tasks/t1")).json()["seen"] is None
