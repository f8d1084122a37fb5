"""Limits of a node's key on what it may register, checked in the registration's transaction."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db import locks
from infra.db.connection import Connection
from infra.db.nodes.queries import Registration
from workflows.domain.errors import BeyondKeyLimits
from workflows.domain.key_limits import KeyLimits

_OTHERS = (
    "SELECT count(*) AS gpus, COALESCE(sum(max_concurrent_tasks), 0) AS slots FROM gpus"
    " WHERE lineage = %(lineage)s AND gone_at IS NULL AND gpu_id <> %(gpu_id)s"
)


@dataclass(frozen=True)
class _Others:
    gpus: int
    slots: int


async def check(connection: Connection, limits: KeyLimits, node: Registration) -> None:
    """Raise BeyondKeyLimits if this registration, with the lineage's other GPUs, exceeds its limits.

    Registering the same GPU again does not count twice.
    """
    if not limits.allow_types(node.task_types):
        raise BeyondKeyLimits("supportedTaskTypes 含有密钥未获授权的任务类型")
    if not limits.allow_ip(node.ip):
        raise BeyondKeyLimits("ip 不在密钥获授权的网络内")
    if limits.max_gpus is None and limits.max_slots is None:
        return
    await locks.fleet(connection, node.lineage)
    others = await connection.one(_Others, _OTHERS, {"lineage": node.lineage, "gpu_id": node.gpu_id})
    if not limits.allow_gpus(others.gpus + 1):
        raise BeyondKeyLimits("密钥可注册的GPU数量已达上限")
    if not limits.allow_slots(others.slots + node.max_concurrent_tasks):
        raise BeyondKeyLimits("maxConcurrentTasks 超出密钥可用的槽位总数")
