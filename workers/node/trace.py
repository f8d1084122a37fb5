"""The node's part of a task's trace: one span, from the acceptance of an attempt to its end."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.trace import Span, SpanKind, StatusCode

from infra import telemetry
from workers.node.assignment import Assignment
from workers.node.records import Record


class ExecutionTrace:
    """Where the node exports no traces the span is none, and the caller's traceparent is handed on."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def begin(self) -> None:
        """The user's work begins: what came before was waiting for a process that is ready."""
        self._span.add_event("work begins")

    def end(self, record: Record) -> None:
        """How it ended; the error's text stays here, since the user's work has a say in it."""
        self._span.set_attribute("attempt.status", record.status)
        if record.status == "failed":
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def traced(assignment: Assignment, gpu_id: str) -> tuple[Assignment, ExecutionTrace]:
    """The assignment as the work and the reports see it: their part of the trace hangs below our span."""
    span = telemetry.tracer().start_span(
        "execute attempt",
        context=telemetry.context_of(assignment.traceparent),
        kind=SpanKind.CONSUMER,
        attributes={
            "task.id": assignment.task_id,
            "task.attempt": assignment.attempt,
            "task.type": assignment.task_type,
            "gpu.id": gpu_id,
        },
    )
    own = telemetry.traceparent_of(span) or assignment.traceparent
    return replace(assignment, traceparent=own), ExecutionTrace(span)
