"""Samples that Prometheus reads, and the callers that may."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.db.ops.counters import Counts
from infra.db.ops.kinds import Kind
from infra.db.ops.measures import Histogram, Measures
from infra.db.slots.usage import NodeSlots, by_state
from infra.metrics import exposition, fleet, process
from infra.metrics.fleet import Fleet
from tests.unit.whole_api import client


def a_fleet(tasks: Mapping[Kind, int], oldest_s: Mapping[int | None, float] | None = None) -> Fleet:
    measures = Measures(ended={("2", "COMPLETED"): 3, ("2", "CANCELLED"): 1}, gpu_seconds={"useful": 1.5})
    for by_type in measures.histograms.values():
        by_type["2"] = Histogram({0.5: 2, 5.0: 1, math.inf: 1}, 20000.25)
    nodes = [NodeSlots("g1", "ACTIVE", [1], 4, 4, 1, "free"), NodeSlots("g2", "OFFLINE", [1], 2, 2, 1, "offline")]
    return Fleet(Counts(tasks=tasks), measures, oldest_s or {}, nodes, [], 4.0, 0, 8_000_000)


def samples(shown: Fleet) -> dict[str, float]:
    """The value of each series."""
    found = {}
    for family in text_string_to_metric_families(exposition.text(shown.families()).decode()):
        for one in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


def test_each_status_of_a_type_is_there_also_without_a_task() -> None:
    found = samples(a_fleet({(2, "QUEUED"): 5, (3, "COMPLETED"): 1}, {2: 12.5}))
    assert found['gpuo_tasks{status="QUEUED",type="2"}'] == 5
    assert found['gpuo_tasks{status="PROCESSING",type="2"}'] == 0
    assert found['gpuo_queue_oldest_seconds{type="2"}'] == 12.5
    assert found['gpuo_queue_oldest_seconds{type="3"}'] == 0


def test_buckets_add_up_and_name_their_bounds() -> None:
    found = samples(a_fleet({}))
    wait = {name: n for name, n in found.items() if name.startswith("gpuo_wait_seconds_bucket")}
    assert list(wait.values()) == sorted(wait.values())
    assert found['gpuo_wait_seconds_bucket{le="0.1",type="2"}'] == 0
    assert found['gpuo_wait_seconds_bucket{le="1",type="2"}'] == 2
    assert found['gpuo_wait_seconds_bucket{le="14400",type="2"}'] == 3
    assert found['gpuo_wait_seconds_bucket{le="+Inf",type="2"}'] == found['gpuo_wait_seconds_count{type="2"}'] == 4
    assert found['gpuo_wait_seconds_sum{type="2"}'] == 20000.25


def test_slots_are_partitioned_by_what_they_do() -> None:
    nodes = [
        NodeSlots("a", "ACTIVE", [1], 4, 4, 1, "free"),
        NodeSlots("b", "OFFLINE", [1], 2, 2, 1, "offline"),
        NodeSlots("c", "ACTIVE", [1], 2, 2, 0, "resting"),
    ]
    counts = by_state(nodes)
    assert counts == {"busy": 2, "free": 3, "resting": 2, "draining": 0, "offline": 1, "faulty": 0}
    assert sum(counts.values()) == sum(node.slots for node in nodes)


def test_types_beyond_the_bound_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MOST_TYPES", 2)
    found = samples(a_fleet({(kind, "QUEUED"): kind for kind in range(1, 6)}))
    assert {name: n for name, n in found.items() if 'status="QUEUED"' in name} == {
        'gpuo_tasks{status="QUEUED",type="4"}': 4,
        'gpuo_tasks{status="QUEUED",type="5"}': 5,
        'gpuo_tasks{status="QUEUED",type="other"}': 6,
    }


def test_types_without_a_count_of_their_own_share_that_label_too() -> None:
    found = samples(a_fleet({(2, "QUEUED"): 5, (None, "QUEUED"): 7, (None, "FAILED"): 1}, {None: 3.0}))
    assert found['gpuo_tasks{status="QUEUED",type="other"}'] == 7
    assert found['gpuo_tasks{status="FAILED",type="other"}'] == 1
    assert found['gpuo_queue_oldest_seconds{type="other"}'] == 3.0


def test_a_process_names_its_instance() -> None:
    text = exposition.text(process.families("instance-007", {"gpuo_streams": ("Streams.", 2.0)})).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'gpuo_streams{instance="instance-007"} 2.0' in lines
    assert all('instance="instance-007"' in line for line in lines)
    assert any(line.startswith("process_cpu_seconds_total") for line in lines)


def test_no_label_is_a_tasks_a_users_or_a_token() -> None:
    names = set(re.findall(r'(\w+)="', exposition.text(a_fleet({(2, "QUEUED"): 1}).families()).decode()))
    assert names == {"type", "status", "end_reason", "le", "state", "gpu_id", "kind", "level"}


async def called(role: str | None, *answers: object) -> httpx.Response:
    async with client(role, *answers) as http:
        return await http.get("http://test/metrics")


async def test_it_needs_an_operators_key() -> None:
    assert (await called(None)).status_code == 401
    for role in ("user", "node"):
        response = await called(role)
        assert (response.status_code, response.json()["message"]) == (403, "权限不足")
    for role in ("operator", "admin"):
        assert (await called(role)).status_code == 503  # the database is away


async def test_the_answer_is_prometheus_text() -> None:
    response = await called("operator", a_fleet({(2, "QUEUED"): 1}))
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gpuo_tasks{status="QUEUED",type="2"} 1.0' in response.text
