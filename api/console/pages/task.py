"""A task: what it is, where it is, its whole story."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from api.console import documents, why
from api.console.documents import Document
from api.console.page import EVERYBODY, Asked, Page
from api.console.texts import N_
from api.routes import access
from api.routes.roles import OPERATORS
from api.schemas import task_progress
from api.schemas.webhooks import id_of
from infra.db.attempts import queries as attempt_queries
from infra.db.attempts.queries import OfTask
from infra.db.slots import capacity
from infra.db.slots.wait_estimate import interval_s
from infra.db.tasks import queries, timeline
from infra.db.tasks.queries import Task
from infra.db.tasks.timeline import Event
from infra.db.transactions.retry_task import RETRIED
from infra.db.webhooks import deliveries
from infra.json.off_loop import off_loop
from infra.temporal.task_workflows import task_workflow_id
from workflows.domain.event import OF_TASKS
from workflows.domain.task import TERMINAL

MOST_EVENTS = 200
MOST_ATTEMPTS = 50
MOST_DELIVERIES = 20


@dataclass(frozen=True)
class Step:
    """An entry of the story; `after_s`: seconds since the one before."""

    event: Event
    is_note: bool
    after_s: float | None


@dataclass(frozen=True)
class Try:
    """An attempt; `ran_s`: until it was closed, or until now; `part`: of the longest one, of 100."""

    attempt: OfTask
    ran_s: float
    part: float


async def contents(asked: Asked) -> dict[str, Any]:
    context, caller, task_id = asked.context, asked.caller, asked.path["task_id"]
    task = await access.read_task(context, caller, task_id, queries.get)
    owner = await access.read_task(context, caller, task_id, queries.owner)
    skipped = max(0, owner.event_seq - MOST_EVENTS)
    database, seen_by = context.database, access.owner_seen_by(caller)
    events = await database.single(lambda c: timeline.events(c, task_id, limit=MOST_EVENTS, offset=skipped))
    attempts = await database.single(lambda c: attempt_queries.of_task(c, task_id, limit=MOST_ATTEMPTS))
    sent = await database.single(lambda c: deliveries.of_task(c, task_id, seen_by, limit=MOST_DELIVERIES))
    return {
        "task": task,
        "steps": _steps(events),
        "skipped": skipped,
        "tries": _tries(attempts),
        "deliveries": [(id_of(one.delivery_id), one) for one in sent],
        "payload": await _document(task.payload),
        "result": await _document(task.result),
        "progress": await _progress(asked, task),
        "is_still": task.status in TERMINAL,
        "can_retry": task.status in RETRIED and not task.purged,
        "has_slot": any(one.closed_at is None for one in attempts),
        "sees_nodes": caller.role in OPERATORS,
        "workflow": _workflow(asked, task_id) if caller.role in OPERATORS else None,
        "trace": await _trace(asked, task_id) if caller.role in OPERATORS else None,
    }


def _steps(events: list[Event]) -> list[Step]:
    """The story, the latest first."""
    before: datetime | None = None
    found = []
    for event in events:
        after_s = None if before is None else max((event.at - before).total_seconds(), 0.0)
        found.append(Step(event, event.from_status == event.to_status, after_s))
        before = event.at
    return found[::-1]


def _tries(attempts: list[OfTask]) -> list[Try]:
    now = datetime.now(attempts[0].claimed_at.tzinfo) if attempts else None
    ran = [max(((one.closed_at or now or one.claimed_at) - one.claimed_at).total_seconds(), 0.0) for one in attempts]
    longest = max(ran, default=0.0) or 1.0
    return [Try(one, ran_s, 100 * ran_s / longest) for one, ran_s in zip(attempts, ran, strict=True)]


async def _document(text: str | None) -> Document | None:
    return None if text is None else await off_loop.run(len(text), lambda: documents.read(text))


async def _progress(asked: Asked, task: Task) -> dict[str, Any] | None:
    """The answer of `GET /tasks/{taskId}/progress`, with the reason in words and the wait as an interval."""
    context = asked.context
    row = await context.database.single(lambda c: queries.progress(c, task.task_id))
    if row is None or row.status in TERMINAL:
        return None
    fleet, ahead = await context.forecast.of_task(row)
    spread = await context.database.single(lambda c: capacity.spread_durations(c, [row.task_type]))
    return {
        **task_progress.shown(row, fleet, ahead),
        "reason": why.reason(asked, fleet.nodes, sees_nodes=asked.caller.role in OPERATORS),
        "expected_s": interval_s(ahead, fleet, spread.get(row.task_type)),
        "attempt": row.attempt,
        "is_waiting": row.waiting_since is not None,
    }


def _workflow(asked: Asked, task_id: str) -> str | None:
    """Its workflow in Temporal's Web UI, if that is known."""
    settings = asked.context.settings
    if not settings.temporal_ui_url:
        return None
    namespace, workflow = quote(settings.temporal_namespace, safe=""), quote(task_workflow_id(task_id), safe="")
    return f"{settings.temporal_ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{workflow}"


async def _trace(asked: Asked, task_id: str) -> str | None:
    """Its trace, if that is known."""
    template = asked.context.settings.trace_url
    parent = await asked.context.database.single(lambda c: queries.trace(c, task_id)) if template else None
    return template.replace("{trace_id}", parent.split("-")[1]) if template and parent else None


PAGE = Page(
    "task",
    "/tasks/{task_id}",
    N_("Task"),
    contents,
    roles=EVERYBODY,
    entry="/tasks",
    is_listed=False,
    every_s=2.0,
    topic="task_id",
    events=frozenset(OF_TASKS),
)
