"""A node: its facts, what may be done with it, and its slots over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from api.console import marks, timeline
from api.console.page import Asked, Page
from api.console.paging import with_query
from api.console.texts import N_
from api.schemas.fields import unix_ms
from infra.db.attempts import of_node
from infra.db.attempts.of_node import NodeAttempt
from infra.db.clock import moment
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes.queries import GoneNode, RegisteredNode
from workflows.domain.errors import GpuNotFound
from workflows.domain.event import EventType

SPANS = {"15": timedelta(minutes=15), "60": timedelta(hours=1), "360": timedelta(hours=6)}
STEPS = 720
"""The picture of the present moves on in steps of this part of it."""
LISTED = 25
MOST_METADATA = 30


async def contents(asked: Asked) -> dict[str, Any]:
    gpu_id = asked.path["gpu_id"]
    span = SPANS.get(asked.query.get("span", ""), SPANS["60"])
    until = _until(asked.query.get("until", ""))
    now = datetime.now(UTC)
    present = _ceiling(now, span / STEPS)

    async def read(connection: Connection) -> tuple[RegisteredNode, datetime, list[NodeAttempt]]:
        node = await node_queries.get(connection, gpu_id) or await node_queries.gone(connection, gpu_id)
        if node is None:
            raise GpuNotFound
        end = until or (node.gone_at if isinstance(node, GoneNode) else present)
        return node, end, await of_node.within(connection, gpu_id, end - span, end)

    node, end, attempts = await asked.context.database.run(read)
    gone_at = node.gone_at if isinstance(node, GoneNode) else None
    beats = await asked.context.beats.last([gpu_id])
    seen = max(filter(None, (node.last_beat, moment(beats.get(gpu_id)))), default=None)
    back = min(end, present) - span
    ahead = None if until is None else until + span
    return {
        "node": node,
        "gone_at": gone_at,
        "state": "GONE" if gone_at else marks.of_node(node.status, draining=node.draining),
        "last_beat": seen,
        "metadata": _shown(node.metadata),
        "attempts": attempts[:LISTED],
        "found": len(attempts),
        "lanes": timeline.of(attempts, node.max_concurrent_tasks, end - span, end),
        "is_live": until is None,
        "is_still": until is not None,
        "spans": [(name, one == span) for name, one in SPANS.items()],
        "before": with_query(asked.query, until=str(unix_ms(back))),
        "after": with_query(asked.query, until="" if ahead is None or ahead >= now else str(unix_ms(ahead))),
        "most": of_node.MOST,
    }


def _until(text: str) -> datetime | None:
    """The end of the stretch that is shown, or None for now."""
    return moment(int(text)) if text.isdecimal() and len(text) < 15 else None


def _ceiling(at: datetime, step: timedelta) -> datetime:
    """The next whole step: the picture is the same until then."""
    return at + (datetime.min.replace(tzinfo=UTC) - at) % step


def _shown(metadata: Any) -> list[tuple[str, str]]:
    """The node's metadata, cut to what fits a page."""
    items = list(metadata.items()) if isinstance(metadata, dict) else []
    return [(str(name), str(value)) for name, value in items[:MOST_METADATA]]


PAGE = Page(
    "node",
    "/nodes/{gpu_id}",
    N_("Node"),
    contents,
    entry="/fleet",
    is_listed=False,
    every_s=3.0,
    events=frozenset(EventType) - {EventType.TASK_CREATED, EventType.GROUP_ENDED},
)
