"""A node's transitions as guarded writes, one named function each (INVARIANTS, "Legal transitions").

Each moves the row only from the states that the table allows, and raises the transition's alert in the same
transaction. The callers handle claims and releases around it.
"""

from __future__ import annotations

from infra.db.connection import Connection, listed
from infra.db.locks import Release
from infra.db.nodes import records as node_records
from infra.db.ops import alerts
from infra.db.ops.alerts import NewAlert
from workflows.domain.alert import AlertLevel
from workflows.domain.gpu import GpuStatus, check_transition
from workflows.notifications import NodeEvent, Notifications


def _transition(
    before: tuple[GpuStatus, ...], after: GpuStatus, assignments: str, where: str = "gone_at IS NULL"
) -> str:
    for state in before:
        check_transition(state, after)
    return (
        f"UPDATE gpus g SET status = '{after}', status_since = clock_timestamp(), {assignments}"
        f" WHERE gpu_id = %(gpu_id)s AND status IN ({listed(before)}) AND {where} RETURNING epoch"
    )


_FAULT = _transition(  # also if it is gone: it comes back as it left
    (GpuStatus.ACTIVE, GpuStatus.OFFLINE), GpuStatus.FAULTY, "fault_reason = %(reason)s", where="true"
)
_OFFLINE = _transition((GpuStatus.ACTIVE,), GpuStatus.OFFLINE, "failure_count = failure_count + 1")
_RETURN = _transition((GpuStatus.OFFLINE,), GpuStatus.ACTIVE, node_records.REACHED)
_RECOVER = _transition(
    (GpuStatus.FAULTY,),
    GpuStatus.ACTIVE,
    # It may have been faulty without its workflow seeing that: this is another stay in the state that was seen.
    f"{node_records.CLEAN}, fault_reason = NULL, judged_since = clock_timestamp(), attended_status = NULL",
)
_GO = "UPDATE gpus SET gone_at = clock_timestamp() WHERE gpu_id = %(gpu_id)s AND gone_at IS NULL RETURNING epoch"


async def fault(connection: Connection, gpu_id: str, reason: str) -> Notifications:
    """ACTIVE, OFFLINE → FAULTY with a CRITICAL alert; does nothing if it is FAULTY already."""
    epoch = await connection.one_or_none(int, _FAULT, {"gpu_id": gpu_id, "reason": reason})
    if epoch is None:
        return Notifications()
    await alerts.raise_alert(connection, _fault_alert(gpu_id, reason))
    return Notifications(nodes=[NodeEvent(gpu_id, "fault", epoch)])


async def go_offline(connection: Connection, gpu_id: str) -> bool:
    """ACTIVE → OFFLINE with a WARNING alert. Returns False if it is not ACTIVE."""
    if await connection.one_or_none(int, _OFFLINE, {"gpu_id": gpu_id}) is None:
        return False
    await alerts.raise_alert(connection, _offline_alert(gpu_id))
    return True


async def come_back(connection: Connection, release: Release) -> int | None:
    """OFFLINE → ACTIVE. Returns the node's epoch, or None if it is not OFFLINE."""
    return await connection.one_or_none(int, _RETURN, release.__dict__)


async def recover(connection: Connection, release: Release) -> int | None:
    """FAULTY → ACTIVE. Returns the node's epoch, or None if it is not FAULTY."""
    return await connection.one_or_none(int, _RECOVER, release.__dict__)


async def go(connection: Connection, gpu_id: str) -> int | None:
    """any → (gone). Returns the node's epoch, or None if it is not registered."""
    return await connection.one_or_none(int, _GO, {"gpu_id": gpu_id})


def _fault_alert(gpu_id: str, reason: str) -> NewAlert:
    return NewAlert(
        cause=f"fault:{gpu_id}",
        title="GPU故障告警",
        message=f"GPU节点 {gpu_id} 检测到故障: {reason}",
        level=AlertLevel.CRITICAL,
        source=alerts.GPU_MONITOR,
    )


def _offline_alert(gpu_id: str) -> NewAlert:
    return NewAlert(
        cause=f"offline:{gpu_id}",
        title="GPU离线告警",
        message=f"GPU节点 {gpu_id} 心跳超时，已离线",
        level=AlertLevel.WARNING,
        source=alerts.GPU_MONITOR,
    )


_ATTENDED = (
    "UPDATE gpus SET attended_epoch = epoch, attended_status = status WHERE gpu_id = %(gpu_id)s"
    " AND (epoch, status) = (%(epoch)s, %(status)s)"
    " AND (attended_epoch, attended_status) IS DISTINCT FROM (epoch, status)"
)


async def attended(connection: Connection, gpu_id: str, epoch: int, status: str) -> None:
    """Record that the node's workflow has seen this state, unless the node is in another one by now."""
    await connection.execute(_ATTENDED, {"gpu_id": gpu_id, "epoch": epoch, "status": status})
