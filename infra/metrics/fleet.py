"""The fleet in Prometheus' form: the same from every process, since all of it is read from Postgres."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from infra.db.connection import Connection
from infra.db.ops import counters, health, instances, measures, sizes
from infra.db.ops.counters import Counts
from infra.db.ops.instances import ListedInstance
from infra.db.ops.kinds import OTHER, by_type
from infra.db.ops.measures import HISTOGRAMS, MOST_TYPES, Histogram, Measures
from infra.db.queue.oldest import oldest, oldest_of_others_s
from infra.db.slots import usage
from infra.db.slots.usage import NodeSlots
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.task import EndReason, TaskStatus

K = TypeVar("K", bound=tuple[str, ...])

_MEANS = {
    "wait": "Seconds from the creation of a task until a node first had it.",
    "run": "Seconds from the start to the end of COMPLETED tasks.",
    "dispatch": "Seconds from the claim of a slot until the node has accepted the attempt.",
    "eta_error": "Difference between the estimated wait at the creation of a task and its real wait, in seconds.",
}


@dataclass(frozen=True)
class Fleet:
    """All that is shown, of one moment."""

    counts: Counts
    measures: Measures
    oldest_s: Mapping[int | None, float]
    nodes: list[NodeSlots]
    instances: list[ListedInstance]
    monitor_age_s: float | None
    stuck: int
    database_bytes: int

    def families(self) -> Iterator[Metric]:
        """Every metric."""
        yield from self._tasks()
        yield from self._ended()
        for name in HISTOGRAMS:
            yield _histogram(name, self.measures.histograms[name])
        yield from self._nodes()
        yield from self._system()

    def _tasks(self) -> Iterator[Metric]:
        labels = _labels(self.counts)
        tasks = dict.fromkeys(((label, str(status)) for label in labels.values() for status in TaskStatus), 0)
        oldest_s = dict.fromkeys(labels.values(), 0.0)
        for (task_type, status), n in self.counts.tasks.items():
            tasks[labels[task_type], status] += n
        for task_type, seconds in self.oldest_s.items():
            label = labels.get(task_type, OTHER)
            oldest_s[label] = max(oldest_s.get(label, 0.0), seconds)
        yield _gauge("gpuo_tasks", "Tasks that are kept, by type and status.", ("type", "status"), tasks)
        what = "Seconds that the longest-waiting task of the type has waited for a slot; 0 if none waits."
        yield _gauge("gpuo_queue_oldest_seconds", what, ("type",), {(label,): s for label, s in oldest_s.items()})

    def _ended(self) -> Iterator[Metric]:
        ended = CounterMetricFamily("gpuo_tasks_ended", "Tasks that have ended.", labels=("type", "end_reason"))
        types = {label for label, _ in self.measures.ended} | set(_labels(self.counts).values())
        for pair in ((label, str(reason)) for label in sorted(types) for reason in EndReason):
            ended.add_metric(pair, self.measures.ended.get(pair, 0))  # a series from 0 on has an increase
        yield ended
        seconds = CounterMetricFamily("gpuo_gpu_seconds", "Slot time of accepted attempts.", labels=("kind",))
        for kind in (*measures.GPU_SECONDS, measures.LOST):
            seconds.add_metric((kind,), self.measures.gpu_seconds.get(kind, 0.0))
        yield seconds
        sent = CounterMetricFamily("gpuo_deliveries", "Deliveries of webhooks that have ended.", labels=("state",))
        for state in ("DELIVERED", "DEAD"):
            sent.add_metric((state,), self.measures.deliveries.get(state, 0))
        yield sent

    def _nodes(self) -> Iterator[Metric]:
        slots = {(state,): n for state, n in usage.by_state(self.nodes).items()}
        yield _gauge("gpuo_slots", "Slots of registered nodes, by what they do.", ("state",), slots)
        up = {(node.gpu_id,): float(node.status == "ACTIVE") for node in self.nodes}
        yield _gauge("gpuo_node_up", "1 for a registered node that is ACTIVE, else 0.", ("gpu_id",), up)

    def _system(self) -> Iterator[Metric]:
        alerts = dict.fromkeys(((str(level), str(status)) for level in AlertLevel for status in AlertStatus), 0)
        alerts |= self.counts.alerts
        yield _gauge("gpuo_alerts", "Alerts that are kept, by level and status.", ("level", "status"), alerts)
        alive = {kind: sum(one.alive for one in self.instances if one.kind == kind) for kind in ("api", "worker")}
        yield _gauge("gpuo_instances", "Instances that beat, by kind.", ("kind",), {(k,): n for k, n in alive.items()})
        leads = any(one.alive and one.leads for one in self.instances)
        yield GaugeMetricFamily("gpuo_leader", "1 while a living instance leads, else 0.", value=float(leads))
        yield GaugeMetricFamily("gpuo_stuck_workflows", "Workflows that could not go on lately.", value=self.stuck)
        if self.monitor_age_s is not None:
            what = "Seconds since the monitor ran last."
            yield GaugeMetricFamily("gpuo_monitor_age_seconds", what, value=self.monitor_age_s)
        yield GaugeMetricFamily("gpuo_database_bytes", "Size of the database.", value=self.database_bytes)


async def read(connection: Connection, instance_timeout_s: float) -> Fleet:
    """The fleet now: some statements, each of which costs as much as there are types, nodes or instances."""
    counts = await counters.read(connection)
    queued = {task_type for task_type, status in counts.tasks if status == TaskStatus.QUEUED and task_type is not None}
    named = queued & set(_named(counts))
    others = sorted(queued - named)[:MOST_TYPES]  # the cost of a scrape is bounded, however many are made up
    waiting = await oldest(connection, [*named, *others])
    oldest_s: dict[int | None, float] = {kind: one.waited_s for kind, one in waiting.items()}
    if (None, TaskStatus.QUEUED) in counts.tasks:
        oldest_s[None] = await oldest_of_others_s(connection, queued)
    return Fleet(
        counts=counts,
        measures=await measures.read(connection),
        oldest_s=oldest_s,
        nodes=await usage.nodes(connection),
        instances=await instances.list_all(connection, instance_timeout_s),
        monitor_age_s=await health.monitor_age_s(connection),
        stuck=await health.stuck(connection),
        database_bytes=await sizes.total(connection),
    )


def _named(counts: Counts) -> list[int]:
    """The types with a label of their own: callers may invent any number, so those with the most tasks."""
    totals = by_type(counts.tasks)
    known = [task_type for task_type in totals if task_type is not None]
    return sorted(sorted(known, key=lambda task_type: (-totals[task_type], task_type))[:MOST_TYPES])


def _labels(counts: Counts) -> dict[int | None, str]:
    """The label of each type."""
    labels: dict[int | None, str] = {task_type: OTHER for task_type, _ in counts.tasks}
    return labels | {task_type: str(task_type) for task_type in _named(counts)}


def _gauge(name: str, meaning: str, labels: Sequence[str], values: Mapping[K, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family


def _histogram(name: str, by_type: Mapping[str, Histogram]) -> HistogramMetricFamily:
    bounds = (*HISTOGRAMS[name], math.inf)
    family = HistogramMetricFamily(f"gpuo_{name}_seconds", _MEANS[name], labels=("type",))
    for label, found in sorted(by_type.items()):
        within = accumulate(found.buckets.get(bound, 0) for bound in bounds)
        buckets = [(f"{bound:g}".replace("inf", "+Inf"), float(n)) for bound, n in zip(bounds, within, strict=True)]
        family.add_metric((label,), buckets, found.sum_s)
    return family
