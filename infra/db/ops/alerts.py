"""Alerts (specification §4): one is open for each cause, counted, and acknowledged once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection, columns
from infra.db.ops import counters
from workflows.domain.alert import AlertLevel
from workflows.domain.errors import AlertNotFound


@dataclass(frozen=True)
class NewAlert:
    """An alert to raise. `cause` is its subject, such as the faults of one node.

    With `lasts` the alert is a state: it is raised again while it lasts, and repetitions are not counted. A `moment` is
    over as soon as it is raised.
    """

    cause: str
    title: str
    message: str
    level: AlertLevel
    source: str
    lasts: bool = False
    moment: bool = False


@dataclass(frozen=True)
class Alert:
    """An alert that was raised."""

    seq: int
    cause: str | None
    title: str
    message: str
    level: str
    status: str
    source: str
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    count: int
    """How often it has happened."""
    resolved_at: datetime | None = None
    """When its cause ended, or None while the cause lasts. An acknowledgement does not change it."""


FLEET_SILENT = "fleet-silent"
"""The cause of `fleet_silent`."""
UNDELIVERED = "notify:"
"""The prefix of the causes of `undelivered`."""
GPU_MONITOR = "gpu_monitor"
"""The source of what is raised about nodes."""
AGAIN_S = 3600.0
"""Seconds after an acknowledgement for which the same cause is only counted, and not raised again."""

# Named after the one before it, so that two processes that find the same raise one.
_RAISE = f"""
    WITH last AS (
        SELECT seq, status, status = 'ACTIVE' OR {clock.recent("acknowledged_at", clock.seconds("again"))} AS holds
          FROM alerts WHERE cause = %(cause)s ORDER BY seq DESC LIMIT 1),
    counted AS (
        UPDATE alerts a
           SET count = a.count + CASE WHEN %(lasts)s THEN 0 ELSE 1 END,
               message = CASE a.status WHEN 'ACTIVE' THEN %(message)s ELSE a.message END,
               resolved_at = CASE WHEN a.status <> 'ACTIVE' THEN a.resolved_at
                                  WHEN %(moment)s THEN COALESCE(a.resolved_at, clock_timestamp()) END
          FROM last WHERE a.seq = last.seq AND last.holds
           AND NOT (%(lasts)s AND a.message = %(message)s AND (a.resolved_at IS NULL OR a.status <> 'ACTIVE')))
    INSERT INTO alerts (dedupe_key, cause, title, message, level, source, resolved_at)
    SELECT %(cause)s || '#' || COALESCE((SELECT seq FROM last), 0), %(cause)s, %(title)s, %(message)s, %(level)s,
           %(source)s, CASE WHEN %(moment)s THEN clock_timestamp() END
     WHERE NOT EXISTS (SELECT FROM last WHERE holds) ON CONFLICT (dedupe_key) DO NOTHING
    """
_ACKNOWLEDGE = (
    "UPDATE alerts SET status = 'ACKNOWLEDGED', acknowledged_at = clock_timestamp(), acknowledged_by = %(by)s"
    " WHERE seq = %(seq)s AND status = 'ACTIVE'"
)
_EXISTS = "SELECT EXISTS (SELECT FROM alerts WHERE seq = %(seq)s)"
_FILTERS = {"level": "level = %(level)s", "status": "status = %(status)s"}


UNSERVED_NAMED = 20
"""The number of unserved types with an alert of their own. A caller may invent any number of types."""


class Unserved(NamedTuple):
    """A type that no node serves, and the first task that waits. `drained`: the nodes that would take it drain;
    `vip_only`: there are nodes of the type that take only VIP tasks."""

    task_type: int
    task_id: str
    drained: bool = False
    vip_only: bool = False


def unserved(waiting: Sequence[Unserved]) -> list[NewAlert]:
    """Alerts for types that no node serves.

    One for each of the first UNSERVED_NAMED; the others share one.
    """
    named = [_unserved(str(one.task_type), _of_type(one)) for one in waiting[:UNSERVED_NAMED]]
    others = len(waiting) - len(named)
    return [*named, _unserved("others", f"另有 {others} 个任务类型没有可接收其任务的GPU节点")] if others else named


def _of_type(found: Unserved) -> str:
    kind, waits = found.task_type, f"任务 {found.task_id} 正在等待"
    if found.vip_only:
        return f"支持任务类型 {kind} 的GPU节点只接收VIP任务，{waits}"
    if found.drained:
        return f"支持任务类型 {kind} 的GPU节点均已停止接收新任务，{waits}"
    return f"没有已注册的GPU节点支持任务类型 {kind}，{waits}"


def _unserved(which: str, message: str) -> NewAlert:
    return NewAlert(
        cause=f"unserved:{which}",
        title="任务类型无可用节点",
        message=message,
        level=AlertLevel.WARNING,
        source="task_monitor",
        lasts=True,
    )


def stuck(workflows: Sequence[str], causes: Sequence[str]) -> NewAlert:
    """These workflows can't go on: their workflow tasks fail again and again, for these causes."""
    why = f"（{'、'.join(causes)}）" if causes else ""
    return NewAlert(
        cause="stuck-workflows",
        title="工作流无法推进",
        message=f"{len(workflows)} 个工作流的工作流任务反复失败{why}，例如 {workflows[0]}；"
        "已接受的结果由监控收取，请回退或修正 worker 的版本",
        level=AlertLevel.CRITICAL,
        source="system_monitor",
        lasts=True,
    )


def miscounted(wrong: list[str]) -> NewAlert:
    """Kept counts differed from the rows and were corrected."""
    return NewAlert(
        cause="miscounted",
        title="统计计数已校正",
        message=f"{len(wrong)} 项统计计数与数据不一致，已按数据校正: " + ", ".join(wrong[:10]),
        level=AlertLevel.WARNING,
        source="system_monitor",
        moment=True,
    )


def disk_nearly_full(hostname: str, path: str, free: int, total: int) -> NewAlert:
    """The file system of an instance's data has little left (sizes in bytes)."""
    return NewAlert(
        cause=f"disk:{hostname}",
        title="磁盘空间不足",
        message=f"主机 {hostname} 上 {path} 所在磁盘仅剩 {free >> 20} MiB（共 {total >> 20} MiB），"
        "写满后任务将无法创建和完成",
        level=AlertLevel.CRITICAL,
        source="system_monitor",
        lasts=True,
    )


def undelivered(destination: str, digest: str) -> NewAlert:
    """A destination of NOTIFY has not accepted a message, which was given up."""
    return NewAlert(
        cause=f"{UNDELIVERED}{digest}",
        title="告警消息未送达",
        message=f"{destination} 多次未接收告警消息，已放弃发送；请检查该地址及其每个接收者",
        level=AlertLevel.WARNING,
        source="system_monitor",
        lasts=True,
    )


async def raise_alert(connection: Connection, alert: NewAlert) -> bool:
    """(new) → ACTIVE. Returns False if the cause has an ACTIVE alert, or had one within AGAIN_S, which counts it
    instead. An ACTIVE one that was resolved lasts again."""
    return await connection.execute(_RAISE, alert.__dict__ | {"again": AGAIN_S}) == 1


def fleet_silent(held: list[str], fleet: int) -> NewAlert:
    """Alert: a large part of the fleet fell silent at once, and these nodes are held."""
    return NewAlert(
        cause=FLEET_SILENT,
        title="大量GPU同时失联",
        message=f"{fleet} 个GPU节点中有 {len(held)} 个同时失去心跳，疑为系统自身或网络故障，暂缓摘除: "
        + ", ".join(sorted(held)[:20]),
        level=AlertLevel.CRITICAL,
        source=GPU_MONITOR,
        lasts=True,
    )


async def acknowledge(connection: Connection, seq: int, by: str) -> bool:
    """ACTIVE → ACKNOWLEDGED. Returns False if it was acknowledged before: the first one stays. Raises AlertNotFound."""
    changed = await connection.execute(_ACKNOWLEDGE, {"seq": seq, "by": by}) == 1
    if not await connection.one(bool, _EXISTS, {"seq": seq}):
        raise AlertNotFound
    return changed


async def page(
    connection: Connection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[list[Alert], int]:
    """One page of alerts, newest first, and their total."""
    counts = await counters.alerts_by_kind(connection)
    total = sum(n for pair, n in counts.items() if set(filters.values()) <= set(pair))
    return await latest(connection, filters, limit=limit, offset=offset), total


async def latest(connection: Connection, filters: dict[str, object], *, limit: int, offset: int = 0) -> list[Alert]:
    """The newest alerts but the first `offset`, newest first."""
    where = " AND ".join(_FILTERS[name] for name in filters) or "true"
    statement = f"SELECT {columns(Alert)} FROM alerts WHERE {where} ORDER BY seq DESC LIMIT %(limit)s OFFSET %(offset)s"
    return await connection.all(Alert, statement, filters | {"limit": limit, "offset": offset})
