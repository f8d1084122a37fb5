"""Which tasks a command is about: options that become the filters of `GET /tasks` and of bulk operations."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from datetime import UTC, datetime, timedelta
from typing import Any

from gpu_orchestrator_client.commands import given
from workers.arguments import ago, int64

STATUSES = ("QUEUED", "PROCESSING", "COMPLETED", "FAILED", "TIMEOUT")
END_REASONS = ("COMPLETED", "FAILED", "TIMEOUT", "REJECTED", "POISON", "CANCELLED", "EXPIRED", "DEADLINE")


def add_filters(parser: ArgumentParser, statuses: tuple[str, ...] = STATUSES) -> _ArgumentGroup:
    """Add the options; their group."""
    chosen = parser.add_argument_group("which tasks; with several options those that fit all of them")
    chosen.add_argument("--status", type=str.upper, choices=statuses)
    chosen.add_argument("--type", type=int64, metavar="N", help="tasks of this taskType")
    chosen.add_argument("--node", metavar="GPU_ID", help="tasks on this node")
    chosen.add_argument("--app")
    chosen.add_argument("--user", metavar="USER_ID")
    chosen.add_argument("--group", metavar="GROUP_ID")
    chosen.add_argument("--end-reason", type=str.upper, choices=END_REASONS, metavar="REASON", help="CANCELLED, …")
    chosen.add_argument("--since", type=ago, metavar="1h|TIME", help="created after that: ago, or an ISO 8601 time")
    chosen.add_argument("--before", type=ago, metavar="1h|TIME", help="created before that")
    return chosen


def filter_of(args: Namespace) -> dict[str, Any]:
    """The filter as the API spells it, without what is not given."""
    return given(
        status=args.status,
        taskType=args.type,
        gpuId=args.node,
        app=args.app,
        userId=args.user,
        groupId=args.group,
        endReason=args.end_reason,
        createdAfter=_ms(args.since),
        createdBefore=_ms(args.before),
    )


def _ms(when: timedelta | datetime | None) -> int | None:
    """Unix milliseconds, by this machine's clock."""
    if when is None:
        return None
    moment = datetime.now(UTC) - when if isinstance(when, timedelta) else when
    return max(0, round(moment.timestamp() * 1000))
