"""Health levels: each level's rule, in this one place (DESIGN, Health)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """Best first: HEALTHY works as meant, DEGRADED works with less than it has, UNHEALTHY does not work."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"


HEALTHY_SHARE = 0.8
DISK_SHARE, DISK_BYTES = 0.05, 2 * 2**30
"""A file system with less than both left is nearly full: 5 % of a small one, 2 GiB of a large one."""


@dataclass(frozen=True)
class Levels:
    """One level per component of `/monitoring/health/{component}`."""

    gpu: Health
    queue: Health
    task: Health
    cluster: Health

    @property
    def system(self) -> Health:
        """The worst of all."""
        return max((self.gpu, self.queue, self.task, self.cluster), key=list(Health).index)


def gpu_health(status_counts: Mapping[str, int], draining: int = 0) -> Health:
    """UNHEALTHY: nodes are registered and none is ACTIVE; DEGRADED: fewer than 80 % are, or all of those drain.

    Else HEALTHY: a drain of some is maintenance. The specification's sample calls 12 ACTIVE of 15 healthy.
    """
    total, active = sum(status_counts.values()), status_counts.get("ACTIVE", 0)
    if total and not active:
        return Health.UNHEALTHY
    if total and draining >= active:
        return Health.DEGRADED
    return Health.DEGRADED if active < HEALTHY_SHARE * total else Health.HEALTHY


def queue_health(status_counts: Mapping[str, int], working_gpus: int) -> Health:
    """UNHEALTHY: tasks wait and no node takes work; DEGRADED: more than 100 wait for each that does; otherwise HEALTHY.

    A node takes work if it is ACTIVE and does not drain.
    """
    queued = status_counts.get("QUEUED", 0)
    if queued and not working_gpus:
        return Health.UNHEALTHY
    return Health.DEGRADED if queued > 100 * max(working_gpus, 1) else Health.HEALTHY


def task_health(recently_ended: Mapping[str, int]) -> Health:
    """Health by the share of FAILED and TIMEOUT among the last 100 ended tasks: above 50 % UNHEALTHY, above 10 %
    DEGRADED."""
    bad = recently_ended.get("FAILED", 0) + recently_ended.get("TIMEOUT", 0)
    ended = bad + recently_ended.get("COMPLETED", 0)
    if ended < 10:
        return Health.HEALTHY
    share = bad / ended
    return Health.UNHEALTHY if share > 0.5 else Health.DEGRADED if share > 0.1 else Health.HEALTHY


def cluster_health(
    active: int, total: int, *, has_leader: bool, disk_nearly_full: bool = False, stuck: int = 0
) -> Health:
    """UNHEALTHY: no instance beats; HEALTHY: all do, one leads, no disk is nearly full, no workflow stuck.

    Otherwise DEGRADED.
    """
    if active == 0:
        return Health.UNHEALTHY
    sound = active == total and has_leader and not disk_nearly_full and not stuck
    return Health.HEALTHY if sound else Health.DEGRADED


def is_nearly_full(free: int, total: int) -> bool:
    """Whether a file system has little left, in bytes; one that doesn't report its size is not judged."""
    return total > 0 and free < min(DISK_SHARE * total, DISK_BYTES)
