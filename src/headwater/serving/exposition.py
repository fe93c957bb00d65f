"""`GET /metrics`: the numbers of all workers, and how the store stands, as Prometheus and OpenMetrics write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from headwater.serving.metrics import COUNTER, FAMILIES, HISTOGRAM, Family, merged
from headwater.serving.slots import Memory, Name

if TYPE_CHECKING:
    from headwater.compute.status import StoreStatus, VersionStatus

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def exposition(memory: Memory, status: StoreStatus | None, release: str, accept: str) -> tuple[bytes, str]:
    """The metrics of a server, and their content type.

    Args:
        memory: of all workers.
        status: how the store stands; None: it cannot be told.
        release: headwater's.
        accept: the request's `Accept` header: OpenMetrics where it asks for that, else Prometheus' text.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([*_counted(memory), *_workers(memory), *_stands(status, release)]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _counted(memory: Memory) -> Iterator[Metric]:
    series: dict[str, list[tuple[Name, list[float]]]] = {name: [] for name in FAMILIES}
    for name, values in sorted(merged(memory).items()):
        series[name[0]].append((name[1:], values))
    for family in FAMILIES.values():
        if series[family.name] or not family.labels:
            yield _metric(family, series[family.name])


def _metric(family: Family, series: Sequence[tuple[Name, list[float]]]) -> Metric:
    if family.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        ends = [*map(repr, family.bounds), "+Inf"]
        for labels, (*counts, total) in series:
            histogram.add_metric(labels, list(zip(ends, accumulate(counts), strict=True)), total)
        return histogram
    made = _plain(family.kind, family.name, family.help, family.labels)
    for labels, values in series or [((), [0.0])]:
        if family.each:
            for each, value in zip(family.each, values, strict=True):
                made.add_metric([*labels, each], value)
        else:
            made.add_metric(labels, values[0])
    return made


def _plain(kind: str, name: str, text: str, labels: Sequence[str] = ()) -> CounterMetricFamily | GaugeMetricFamily:
    return (CounterMetricFamily if kind == COUNTER else GaugeMetricFamily)(name, text, labels=labels)


def _workers(memory: Memory) -> Iterator[Metric]:
    """The processes behind the server; of the supervisor, which counts too, nothing."""
    alive = GaugeMetricFamily("headwater_workers", "Workers that are running.")
    began = GaugeMetricFamily("headwater_worker_start_time_seconds", "When a worker began.", labels=["worker"])
    cpu = CounterMetricFamily("headwater_worker_cpu_seconds", "CPU time of a worker.", labels=["worker"])
    memories = GaugeMetricFamily("headwater_worker_resident_memory_bytes", "Memory of a worker.", labels=["worker"])
    count = 0
    for index, process, start, _ in memory.read():
        if memory.slots > 1 and index == 0:
            continue
        used = _process(process)
        if used is not None:
            count += 1
            worker = [str(index)]
            began.add_metric(worker, start)
            cpu.add_metric(worker, used[0])
            memories.add_metric(worker, used[1])
    alive.add_metric([], count)
    yield from (alive, began, cpu, memories)


def _process(process: int) -> tuple[float, float] | None:
    """CPU seconds and bytes of a process; None where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS, float(pages * _PAGE)


@dataclass
class _Gauges:
    """Gauges by name, in the order of their first value."""

    made: dict[str, GaugeMetricFamily] = field(default_factory=dict)

    def add(self, name: str, text: str, value: float | datetime | timedelta | None, **labels: str) -> None:
        if isinstance(value, datetime):
            value = value.timestamp()
        elif isinstance(value, timedelta):
            value = value.total_seconds()
        if value is not None:
            gauge = self.made.get(name)
            if gauge is None:
                gauge = self.made[name] = GaugeMetricFamily(name, text, labels=tuple(labels))
            gauge.add_metric(list(labels.values()), float(value))


def _stands(status: StoreStatus | None, release: str) -> Iterable[Metric]:
    gauges = _Gauges()
    gauges.add("headwater_build_info", "The release of headwater.", 1, version=release)
    gauges.add("headwater_status_readable", "Whether registry, log and online store could be read.", status is not None)
    if status is None:
        return gauges.made.values()
    gauges.add("headwater_registry_revision", "The registry's revision.", status.revision)
    gauges.add("headwater_failures", "Stores that cannot be reached, and runs that failed.", len(status.failures))
    gauges.add("headwater_warnings", "What 'headwater status' warns of.", len(status.warnings))
    for version in status.versions:
        if version.state == "retired":
            continue
        _version(gauges, version, status.now)
    _refreshes(gauges, status)
    return gauges.made.values()


def _version(gauges: _Gauges, version: VersionStatus, now: datetime) -> None:
    labels = {"view": version.view, "version": version.version, "state": version.state}
    gauges.add("headwater_materialized_behind_seconds", "Age of a version's watermark.", version.behind, **labels)
    text = "Rows of the log that came after a version's last run."
    gauges.add("headwater_log_rows_behind", text, version.log_behind, **labels)
    if version.newest is not None:
        text = "Age of the newest event online, of views with a freshness SLA."
        gauges.add("headwater_newest_event_age_seconds", text, now - version.newest, **labels)
    gauges.add("headwater_fresh", "Whether a version is within its view's freshness SLA.", version.fresh, **labels)


def _refreshes(gauges: _Gauges, status: StoreStatus) -> None:
    refresh = status.refresh
    states = {
        "pending": refresh.waiting,
        "claimed": refresh.claimed,
        "cooling_down": refresh.resting,
        "dead": refresh.dead,
    }
    for state, count in states.items():
        gauges.add("headwater_refresh_requests", "Refresh requests.", count, state=state)
    gauges.add("headwater_refresh_oldest_seconds", "How long the oldest refresh request has waited.", refresh.oldest)
    gauges.add("headwater_pending_purges", "Purged keys that are not erased yet.", status.pending_purges)
    gauges.add("headwater_overdue_purges", "Purged keys that a run could have erased.", status.overdue_purges)
