"""Answers of §5: the cluster and its instances."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from api.schemas.fields import Long, sample

INSTANCE = {
    "instance_id": "instance-001",
    "status": "ACTIVE",
    "role": "LEADER",
    "last_heartbeat": 1703123456789,
    "start_time": 1703120000000,
}


class InstanceSummary(BaseModel):
    """`instances` of §5.1: an instance without its version."""

    model_config = sample(**INSTANCE)

    instance_id: str
    status: Literal["ACTIVE", "INACTIVE"]
    role: Literal["LEADER", "FOLLOWER"]
    last_heartbeat: Long
    start_time: Long


class InstanceInfo(InstanceSummary):
    """§5.2."""

    model_config = sample(**INSTANCE, version="2.0.0")

    version: str


class ClusterStatus(BaseModel):
    """§5.1; no `leader_instance` between two leaders."""

    model_config = sample(
        cluster_id="cluster_001",
        leader_instance="instance-001",
        total_instances=3,
        active_instances=3,
        instances=[INSTANCE],
    )

    cluster_id: str
    leader_instance: str | None
    total_instances: int
    active_instances: int
    instances: list[InstanceSummary]
