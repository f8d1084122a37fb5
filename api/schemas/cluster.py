"""Answers of §5: the cluster and its instances."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from api.schemas.fields import Moment, Record, sample

INSTANCE = {
    "instance_id": "instance-001",
    "status": "ACTIVE",
    "role": "LEADER",
    "last_heartbeat": 1703123456789,
    "start_time": 1703120000000,
}


def _one_of(no: str, yes: str) -> BeforeValidator:
    """Reads a boolean column as one of two words."""
    return BeforeValidator(lambda flag: {False: no, True: yes}.get(flag, flag))


class InstanceSummary(Record):
    """`instances` of §5.1: an instance without its version."""

    model_config = sample(**INSTANCE)

    instance_id: str = Field(alias="instance_id")
    alive: Annotated[Literal["ACTIVE", "INACTIVE"], _one_of("INACTIVE", "ACTIVE")] = Field(alias="status")
    leads: Annotated[Literal["LEADER", "FOLLOWER"], _one_of("FOLLOWER", "LEADER")] = Field(alias="role")
    last_beat: Moment = Field(alias="last_heartbeat")
    started_at: Moment = Field(alias="start_time")


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
