"""The metrics of a process, kept by the official Prometheus client. Imported only where metrics are on.

Several processes of one `serve` share a folder, whose files the client maps into memory: any process can answer for all.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from .metric_names import METRICS, Figures, Gauges, Kind, Metric
from .shared_metrics import FOLDER, PLACE

if TYPE_CHECKING:
    from .loop_watch import Block

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})  # clients may send any

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
if (_place := os.environ.get(PLACE)) and FOLDER in os.environ:
    # The files have the name of the place among the processes, not of the process: they stay as few as the places.
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: _place)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one app. Methods that count are called on the event loop, and cost a microsecond or two."""

    content_type = prometheus.CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in METRICS:
            self._make(metric)
        self.shares = FOLDER in os.environ  # several processes answer for each other
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        self._ends: dict[tuple[str, str], tuple[Counter, Histogram, Histogram]] = {}

    # Counted as it happens

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        key = method, route, status
        found = self._requests.get(key)
        if found is None:
            known = method if method in METHODS else "OTHER"
            found = self._requests[known, route, status] = self._histograms["qaa_http_request_duration_seconds"].labels(
                known, route, str(status)
            )
        found.observe(seconds)

    def attempt(self, task: str, outcome: str, queued: float, ran: float, *, retried: bool) -> None:
        key = task, outcome
        found = self._ends.get(key)
        if found is None:
            found = self._ends[key] = (
                self._counters["qaa_job_attempts_total"].labels(task, outcome),
                self._histograms["qaa_job_queue_seconds"].labels(task),
                self._histograms["qaa_job_run_seconds"].labels(task),
            )
        ended, queue, run = found
        ended.inc()
        queue.observe(queued)
        run.observe(ran)
        if retried:
            self.count("qaa_job_retries_total", task)

    def block(self, block: "Block") -> None:
        self.count("qaa_event_loop_blocks_total", block.by)
        self.count("qaa_event_loop_blocked_seconds_total", block.by, by=block.seconds)

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    # Read

    def refresh(self, gauges: Gauges) -> None:
        """Read all gauges of this process."""
        for name, read in gauges.items():
            gauge, value = self._gauges[name], read()
            if isinstance(value, Mapping):
                for labels, each in value.items():
                    gauge.labels(*labels).set(each)
            else:
                gauge.set(value)

    async def text(self, figures: Figures) -> bytes:
        """Return all metrics as Prometheus text, with `figures` of the database."""
        return await asyncio.to_thread(self._text, figures)

    def _text(self, figures: Figures) -> bytes:
        registry, database = self.registry, CollectorRegistry()
        if self.shares:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        database.register(_Figures(figures))
        return generate_latest(registry) + generate_latest(database)

    def _make(self, metric: Metric) -> None:
        name, about, labels = metric.name, metric.help, metric.labels
        match metric.kind:
            case Kind.COUNTER:
                self._counters[name] = Counter(name, about, labels, registry=self.registry)
            case Kind.HISTOGRAM:
                self._histograms[name] = Histogram(name, about, labels, registry=self.registry, buckets=metric.buckets)
            case Kind.GAUGE | Kind.GREATEST:
                mode: Literal["livesum", "livemax"] = "livesum" if metric.kind is Kind.GAUGE else "livemax"
                self._gauges[name] = Gauge(name, about, labels, registry=self.registry, multiprocess_mode=mode)


class _Figures:
    """The gauges of the database, as they were read for this answer."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for metric in METRICS:
            if metric.kind is Kind.DATABASE and (value := self._figures.get(metric.name)) is not None:
                family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels or None)
                for labels, each in value.items() if isinstance(value, Mapping) else [((), value)]:
                    family.add_metric(labels, each)
                yield family
