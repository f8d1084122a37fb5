"""An instance whose disk is nearly full says so: an alert that names it, and health is DEGRADED while it lasts."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import AsyncMock, MagicMock

import pytest

from infra.db.ops import alerts, health, instances, leadership
from infra.settings import Settings
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workers.serving import instance as module
from workers.serving.disk import Disk
from workers.serving.instance import Instance
from workflows.domain.health import Health

GIB = 2**30
TIMEOUT_S = 15.0


async def test_a_nearly_full_disk_is_reported_while_it_is(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.do("TRUNCATE instances, leader_lease, monitor_reports")
    instance = Instance("api", OneConnection(life.connection), MagicMock(deliver=AsyncMock()), Settings())
    monkeypatch.setattr(instance, "_hostname", "db-1")

    async def turn(free: int) -> Health:
        monkeypatch.setattr(module, "fullest", lambda folder: Disk(Path("/data"), free, 100 * GIB, 99.0))
        await instance._turn()
        return (await health.read(life.connection, TIMEOUT_S)).levels.cluster

    assert await turn(50 * GIB) is Health.HEALTHY
    assert [await turn(GIB), await turn(GIB // 2)] == [Health.DEGRADED, Health.DEGRADED]
    (alert,) = (await alerts.page(life.connection, {}, limit=9, offset=0))[0]
    assert (alert.cause, alert.level, alert.count) == ("disk:db-1", "CRITICAL", 1)
    assert "db-1 上 /data 所在磁盘仅剩 512 MiB（共 102400 MiB）" in alert.message
    await life.do(f"UPDATE monitor_reports SET at = at - interval '{TIMEOUT_S + 1} s'")
    assert await turn(50 * GIB) is Health.HEALTHY
    await instances.purge(life.connection, TIMEOUT_S)
    assert await life.scalar("SELECT count(*) FROM monitor_reports WHERE name LIKE 'disk:%%'") == 0


async def test_the_disk_of_another_host_counts_while_it_has_an_instance(life: Life) -> None:
    await life.do("TRUNCATE instances, leader_lease, monitor_reports")
    here = await instances.join(life.connection, kind="api", hostname="here", pid=1, version="1")
    await leadership.lead(life.connection, here, 10)
    await instances.report_disk(life.connection, "there")
    assert (await health.read(life.connection, TIMEOUT_S)).levels.cluster is Health.HEALTHY
    there = await instances.join(life.connection, kind="worker", hostname="there", pid=1, version="1")
    assert (await health.read(life.connection, TIMEOUT_S)).levels.cluster is Health.DEGRADED
    await life.connection.execute("DELETE FROM instances WHERE instance_id = %(i)s", {"i": there})
    assert (await health.read(life.connection, TIMEOUT_S)).levels.cluster is Health.HEALTHY
