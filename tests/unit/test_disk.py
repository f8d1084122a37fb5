"""When the disk of an instance's data is nearly full, and which one that is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from workers.serving.disk import fullest
from workflows.domain.health import Health, cluster_health, is_nearly_full

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("free", "total", "nearly_full"),
    [
        (3 * GIB, 1000 * GIB, False),  # 0.3 %, but room for days
        (2 * GIB - 1, 1000 * GIB, True),
        (600 * MIB, 10 * GIB, False),  # little, but 6 %
        (500 * MIB, 10 * GIB, True),
        (0, 10 * GIB, True),
        (0, 0, False),  # some file systems report nothing
    ],
)
def test_both_a_share_and_a_size_must_be_undercut(free: int, total: int, *, nearly_full: bool) -> None:
    assert is_nearly_full(free, total) is nearly_full


def test_a_cluster_with_a_nearly_full_disk_is_degraded() -> None:
    assert cluster_health(2, 2, has_leader=True, disk_nearly_full=True) is Health.DEGRADED
    assert cluster_health(0, 2, has_leader=False, disk_nearly_full=True) is Health.UNHEALTHY


def test_it_is_the_one_of_the_data_or_of_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, postgres = tmp_path / "data", tmp_path / "data" / "postgres"
    free = {str(tmp_path): 9, str(data): 7, str(postgres): 5}
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=free[path], total=10, percent=0.0))
    assert fullest(data).folder == tmp_path  # there is no data folder yet, or never will be
    data.mkdir()
    assert fullest(data).folder == data
    postgres.mkdir()
    assert (fullest(data).folder, fullest(data).free) == (postgres, 5)


def test_its_size_is_the_real_one(tmp_path: Path) -> None:
    disk = fullest(tmp_path)
    assert 0 <= disk.free <= disk.total
    assert 0 <= disk.percent <= 100
