"""The process that is asked, in Prometheus' form: each metric has its `instance`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

_PROCESS = ProcessCollector(registry=CollectorRegistry())


def families(instance: str, gauges: dict[str, tuple[str, float]]) -> Iterator[Metric]:
    """CPU, memory and files of this process, and `gauges`: (meaning, value) by name."""
    for family in _PROCESS.collect():
        family.samples = [one._replace(labels={**one.labels, "instance": instance}) for one in family.samples]
        yield family
    for name, (meaning, value) in gauges.items():
        gauge = GaugeMetricFamily(name, meaning, labels=("instance",))
        gauge.add_metric((instance,), value)
        yield gauge
