"""What a node's key may register within its grants, checked in the registration's transaction."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db import locks
from infra.db.connection import Connection
from infra.db.nodes.queries import Registration
from workflows.domain.errors import BeyondGrants
from workflows.domain.grants import Grants

_OTHERS = (
    "SELECT count(*) AS gpus, COALESCE(sum(max_concurrent_tasks), 0) AS slots FROM gpus"
    " WHERE lineage = %(lineage)s AND gone_at IS NULL AND gpu_id <> %(gpu_id)s"
)


@dataclass(frozen=True)
class _Others:
    gpus: int
    slots: int


async def check(connection: Connection, grants: Grants, node: Registration) -> None:
    """Raise BeyondGrants if this registration, with the lineage's other GPUs, exceeds its grants.

    Registering the same GPU again does not count twice.
    """
    if not grants.allow_types(node.task_types):
        raise BeyondGrants("supportedTaskTypes 含有密钥未获授权的任务类型")
    if not grants.allow_ip(node.ip):
        raise BeyondGrants("ip 不在密钥获授权的网络内")
    if grants.max_gpus is None and grants.max_slots is None:
        return
    await locks.fleet(connection, node.lineage)
    others = await connection.one(_Others, _OTHERS, {"lineage": node.lineage, "gpu_id": node.gpu_id})
    if not grants.allow_gpus(others.gpus + 1):
        raise BeyondGrants("密钥可注册的GPU数量已达上限")
    if not grants.allow_slots(others.slots + node.max_concurrent_tasks):
        raise BeyondGrants("maxConcurrentTasks 超出密钥可用的槽位总数")
