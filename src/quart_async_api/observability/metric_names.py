"""Every metric: its name, type, meaning and labels. docs/reference/metrics.md is made from this table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

Labelled = Mapping[tuple[str, ...], float]  # a figure for each combination of labels
Figures = Mapping[str, float | Labelled]  # by the name of the metric
Gauges = dict[str, Callable[[], float | Labelled]]

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_DURATIONS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)


class Kind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"  # of the processes of one `serve`, added up
    GREATEST = "greatest"  # a gauge, of the process that has the most
    DATABASE = "database"  # a gauge of the whole database, the same in each process that uses it


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = DURATIONS


METRICS = (
    Metric(
        "qaa_http_request_duration_seconds",
        Kind.HISTOGRAM,
        "Time from the head of a request to the last byte of its response, by method, route template and status; 499: the "
        "client disconnected; no route: an unknown path",
        ("method", "route", "status"),
    ),
    Metric(
        "qaa_http_requests_in_flight", Kind.GAUGE, "Requests that are being handled, with open streams and WebSockets"
    ),
    Metric("qaa_http_connections", Kind.GAUGE, "Open client connections of serve"),
    Metric("qaa_http_streams", Kind.GAUGE, "Open event streams and WebSockets"),
    Metric(
        "qaa_job_attempts_total",
        Kind.COUNTER,
        "Ended attempts: succeeded, failed, cancelled, crashed, returned to the queue by a shutdown, lost to another worker",
        ("task", "outcome"),
    ),
    Metric("qaa_job_retries_total", Kind.COUNTER, "Failed attempts that another one follows", ("task",)),
    Metric(
        "qaa_job_queue_seconds",
        Kind.HISTOGRAM,
        "Time from the moment when an attempt was due to its start",
        ("task",),
        LONG_DURATIONS,
    ),
    Metric(
        "qaa_job_run_seconds", Kind.HISTOGRAM, "Time from the start of an attempt to its end", ("task",), LONG_DURATIONS
    ),
    Metric("qaa_jobs_running", Kind.GAUGE, "Attempts that run in these processes"),
    Metric("qaa_job_slots_free", Kind.GAUGE, "Attempts that these processes could run in addition"),
    Metric("qaa_workers_buried_total", Kind.COUNTER, "Dead workers whose jobs these processes have released"),
    Metric("qaa_leases_lost_total", Kind.COUNTER, "Times that a process of these was declared dead and lost its jobs"),
    Metric(
        "qaa_callback_attempts_total",
        Kind.COUNTER,
        "Tries of callbacks: delivered, failed (another one follows), given_up",
        ("outcome",),
    ),
    Metric("qaa_event_loop_lag_seconds", Kind.GREATEST, "Last measured lag of the event loop"),
    Metric(
        "qaa_event_loop_blocks_total",
        Kind.COUNTER,
        "Times that a call blocked the event loop for longer than QAA_LOOP_BLOCK_SECONDS, by its task, route or loop",
        ("by",),
    ),
    Metric(
        "qaa_event_loop_blocked_seconds_total",
        Kind.COUNTER,
        "Time for which calls blocked the event loop, by task, route or loop",
        ("by",),
    ),
    Metric(
        "qaa_background_loops_overdue", Kind.GAUGE, "Background loops that have not succeeded for longer than they may"
    ),
    Metric(
        "qaa_upstream_calls_in_flight", Kind.GAUGE, "Upstream calls that hold one of QAA_UPSTREAM_CONCURRENCY slots"
    ),
    Metric("qaa_upstream_calls_waiting", Kind.GAUGE, "Upstream calls that wait for a slot"),
    Metric("qaa_database_writes_waiting", Kind.GAUGE, "Units of writing that wait for the next transaction"),
    Metric("qaa_database_pool_connections", Kind.GAUGE, "Connections of the PostgreSQL pool: used or free", ("state",)),
    Metric("qaa_database_pool_waiting", Kind.GAUGE, "Callers that wait for a connection of the PostgreSQL pool"),
    Metric("qaa_attention", Kind.GREATEST, "1 for each kind of trouble that this process has noticed", ("kind",)),
    Metric("qaa_database_up", Kind.DATABASE, "1 if the figures of the database could be read within their time limit"),
    Metric(
        "qaa_jobs",
        Kind.DATABASE,
        "Jobs that have not ended: delayed until their time, held by the concurrency of their task, paused with their task, "
        "ready, running",
        ("task", "state"),
    ),
    Metric(
        "qaa_oldest_due_job_age_seconds",
        Kind.DATABASE,
        "Age of the oldest job that is due and does not run yet, without paused tasks",
    ),
    Metric("qaa_tasks_paused", Kind.DATABASE, "1 for each task that is paused", ("task",)),
    Metric("qaa_workers", Kind.DATABASE, "Registered workers"),
    Metric(
        "qaa_callback_queues_due",
        Kind.DATABASE,
        "Queues of callbacks, one for each key and origin, that are due and not served",
    ),
    Metric(
        "qaa_callback_breakers_open", Kind.DATABASE, "Queues of callbacks that wait because their origin keeps failing"
    ),
)
