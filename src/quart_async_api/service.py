"""All parts of the service without HTTP: wired in one place, started and stopped in one order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from inspect import isawaitable
from typing import TYPE_CHECKING, Self

from .access.admissions import Admissions
from .access.key_ring import KeyRing
from .access.keys import KeyStore
from .access.tokens import AccessTokens
from .background.loops import LagMeter, Loop
from .background.tasks import BackgroundTasks
from .callbacks.deliveries import Deliveries
from .callbacks.inbox import Inbox
from .callbacks.outbox import CallbackOutbox
from .callbacks.post import Poster
from .callbacks.queues import CallbackQueues
from .callbacks.reading import CallbackReading
from .callbacks.secrets import WebhookSecrets
from .callbacks.sender import Sender
from .callbacks.target import Targets
from .db.connection import Database
from .db.group_commit import GroupCommit
from .db.migration import check
from .db.notifications import CHECK_SECONDS, Notifications, Wake
from .db.packages import OF_THE_SERVICE, Packages
from .errors import SettingsError, StartupError
from .jobs.dispatch import Dispatch, JobEngine
from .jobs.engines import chosen
from .jobs.events import EventFeed
from .jobs.janitor import Janitor
from .jobs.liveness import liveness
from .jobs.outcomes import call
from .jobs.pauses import LOOK_SECONDS
from .jobs.presence import Presence
from .jobs.runs import Runs
from .jobs.scheduler import Scheduler
from .jobs.store import JobStore
from .lifecycle import Lifecycle
from .moments import Clock, ServiceClock, timestamp
from .observability.calls import record_call
from .observability.loop_watch import LoopWatch
from .observability.shared_metrics import is_installed
from .observability.tracing import is_wanted, outgoing_headers, recorder
from .resources import Opener, opening
from .services.attention import Attention, Kind
from .services.bulk import BulkOperations, bulk_jobs
from .services.callbacks import Callbacks
from .services.census import Census
from .services.figures import Figures
from .services.idempotency import Idempotency
from .services.limits import RateLimits
from .services.refusals import Refusals
from .services.shared_counts import SharedCounts
from .services.streams import Streams
from .services.submissions import Submissions
from .services.tasks import TaskOperations
from .services.transactions import Transactions
from .services.users import Users
from .settings import Settings
from .tasks import Task, registry
from .upstream.client import UpstreamClient
from .upstream.comics import ComicCatalogue

if TYPE_CHECKING:
    import ssl

    import httpx
    from aiohttp.abc import AbstractResolver

    from .observability.metric_names import Gauges
    from .observability.metrics import Metrics


log = logging.getLogger(__name__)

BUILT_IN: Mapping[str, Task] = {bulk_jobs.name: bulk_jobs}
METRICS_SECONDS = 5.0  # between two readings of the gauges for other processes


async def _stop(part: Callable[..., object], **options: float) -> None:
    """Stop a part, and log what it raises: of several such errors, an exit stack raises the last one alone."""
    try:
        stopping = part(**options)
        if isawaitable(stopping):
            await stopping
    except Exception:
        log.exception("%s failed", getattr(part, "__qualname__", part))
        raise


def _write_spans() -> Callable[[], AbstractAsyncContextManager[None]]:
    from .observability.spans import write_spans  # reads files

    return write_spans


def _metrics() -> "Metrics":
    from .observability.metrics import Metrics  # reads files

    return Metrics()


@dataclass(frozen=True, slots=True)
class Role:
    """What a process does; the command says it before the start.

    `serves`: all routes; otherwise it is a worker, and answers health checks alone. `runs_jobs`: of tasks in `queues` (None: of
    all); otherwise other processes run the jobs. `fires_schedules`: starts scheduled tasks.
    """

    serves: bool = True
    runs_jobs: bool = True
    fires_schedules: bool = True
    queues: Collection[str] | None = None


class Service:
    """The parts. Nothing is open before `connected` or `opened`, and nothing runs before `running`.

    `tasks` are all that callers may start, by their names; `packages` have the models of an app; `resources` open what
    tasks and routes use; `transport` takes the place of the one under the shared HTTP client; `callback_resolver` finds the
    addresses of callbacks' targets, whose certificates `callback_verify` checks;
    `dispatch` and `engine` take the place of those that the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: Mapping[str, Task],
        *,
        packages: Packages = (),
        resources: Sequence[Opener] = (),
        transport: "httpx.AsyncBaseTransport | None" = None,
        callback_resolver: "AbstractResolver | None" = None,
        callback_verify: "ssl.SSLContext | None" = None,
        dispatch: Dispatch | None = None,
        engine: Callable[[Runs], JobEngine] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.tasks = tasks = registry((*tasks.values(), *BUILT_IN.values()))
        self.clock: Clock = clock or ServiceClock()
        clock = self.clock
        self.lifecycle = Lifecycle(settings.drain_seconds)
        self.database = Database(settings.database_url, (OF_THE_SERVICE, *packages))
        self.database.opened_by = self
        self.commits = GroupCommit(self.database)
        self.resources: dict[type, object] = {}  # what tasks may ask their context for
        self.role = Role()
        self._openers = resources
        self._transport = transport
        self._was_opened = False

        self.outbox = CallbackOutbox(settings)
        self.notifications = Notifications(self.database.url)
        self._engine = chosen(settings, self.database.url, self.notifications, clock)
        self._make_engine = engine
        self.dispatch = dispatch or self._engine.dispatch
        self.store = JobStore(self.database, self.commits, self.outbox, self.dispatch)
        self.feed = EventFeed(self.store.history, self.notifications)
        self.liveness = liveness(self.database.url)
        self.presence = Presence(self.store, settings, self.liveness, clock=clock)
        self.presence.on_buried.append(lambda worker: self.notifications.tell(Wake.DEATH, worker))
        self.runs = Runs(self.store, self.feed, tasks, settings, self.resources, self.presence, clock=clock)
        self.submissions = Submissions(tasks, self.store, self.feed, self.lifecycle, settings, self.runs, clock=clock)

        self.task_operations = TaskOperations(
            tasks,
            self.store.pauses,
            self.submissions,
            lambda: self.notifications.tell(Wake.PAUSES),
            clock=clock,
        )

        self.queues = CallbackQueues(self.database, self.commits)
        self.deliveries = Deliveries(self.database, self.commits, settings)
        self.callback_reading = CallbackReading(self.database)
        self.secrets = WebhookSecrets(self.database, self.commits, settings.callback_secret_overlap, clock=clock)
        self.inbox = Inbox(self.secrets, clock=clock)
        self.targets = Targets(settings, callback_resolver, self.inbox)
        self.poster = Poster(settings, self.targets, verify=callback_verify)
        self.sender = Sender(
            self.queues,
            self.deliveries,
            self.poster,
            self.secrets,
            self.presence,
            settings,
            self.notifications,
            clock=clock,
        )
        self.outbox.on_committed = self.sender.committed
        self.callbacks = Callbacks(
            self.store, self.deliveries, self.callback_reading, self.targets, self.sender.committed, clock=clock
        )

        self.keys = KeyStore(self.database, self.commits, clock=clock)
        self.key_ring = KeyRing(self.keys, clock=clock)
        self.bulk = BulkOperations(self.store, self.submissions, self.keys, settings, clock=clock)
        self.resources[BulkOperations] = self.bulk
        self.access_tokens = AccessTokens(self.database, self.commits, clock=clock)
        self.admissions = Admissions(self.key_ring, self.access_tokens, clock=clock)
        self.idempotency = Idempotency(self.database, clock=clock)
        self.transactions = Transactions(self.database, self.store.submission, self.submissions, self.idempotency)
        self.users = Users(self.database, self.commits, clock=clock)
        self.limits = RateLimits.of(settings)
        if self.limits is not None and self.database.url.file is None:
            SharedCounts(self.limits, self.notifications)
        self.refusals = Refusals.of(settings)
        self.streams = Streams(settings.max_streams, settings.stream_quota)

        self.figures = Figures(self.database, self.commits, settings.overview_minutes, clock)
        cleaners = (self.deliveries.clean, self.access_tokens.forget, self.figures.forget)
        self.janitor = Janitor(self.store, settings, also=cleaners, clock=clock)
        self.scheduler = Scheduler(self.store, tasks, clock=clock)
        self.pausing = Loop("paused tasks", self.store.pauses.look, every=LOOK_SECONDS)
        self.notifications.on(Wake.PAUSES, lambda _: self.pausing.wake())
        # Not among `loops`: without it, the service only polls.
        self._hearing = Loop("wake-ups of other processes", self.notifications.check, every=CHECK_SECONDS)
        self.notifications.on_lost = self._hearing.wake
        self.lag = LagMeter()
        self.loop_watch = LoopWatch(
            settings.loop_block_seconds,
            {
                Loop.run.__code__: lambda seen: f"loop {seen['self'].name}",
                call.__code__: lambda seen: f"task {seen['task'].name}",
            },
        )
        self.census = Census(self.database, clock)
        if self.figures.kept:
            self.figures.listen(self.store, self.lag, self.census)
        self.attention = Attention(self.runs, self.census, self.database, tasks, clock)
        self.metrics: Metrics | None = None  # while it runs, if metrics are on
        self.gauges: Gauges = {  # for /metrics; an app or a server adds its own
            "qaa_http_streams": lambda: len(self.streams),
            "qaa_jobs_running": lambda: len(self.runs),
            "qaa_job_slots_free": lambda: self.runs.free,
            "qaa_event_loop_lag_seconds": lambda: self.lag.seconds,
            "qaa_background_loops_overdue": lambda: sum(loop.is_overdue for loop in self.loops),
            "qaa_attention": lambda: {(kind.value,): float(kind in self.attention.troubles) for kind in Kind},
            "qaa_database_writes_waiting": lambda: self.commits.waiting,
            "qaa_database_pool_connections": lambda: {
                (state,): self.database.pool.get(state, 0) for state in ("used", "free")
            },
            "qaa_database_pool_waiting": lambda: self.database.pool.get("waiting", 0),
        }
        self.lifecycle.on_drain.append(self.feed.wake)
        self.lifecycle.drains += (lambda grace: self.engine.drain(grace), self.sender.drain)
        self.lifecycle.on_drained += (self.presence.leave, self.figures.close)

    def take(self, role: Role) -> None:
        """Decide what this process does, before it is connected. Raises SettingsError for a queue that no task has."""
        known = {task.queue for task in self.tasks.values()}
        if role.queues is not None:
            if unknown := sorted(set(role.queues) - known):
                raise SettingsError(f"no task has the queue {unknown[0]!r}; there are {', '.join(sorted(known))}")
            mine = (name for name, task in self.tasks.items() if task.queue in role.queues)
            self.runs.readiness.mine = tuple(mine)
        if not role.serves:
            self.presence.on_cut_off.append(self.runs.let_go)
        self.role = role

    @cached_property
    def engine(self) -> JobEngine:
        """The job engine of its role, made when the service begins to run; a command has none."""
        own = self._engine.make if self.role.runs_jobs else self._engine.none
        return (self._make_engine or own)(self.runs)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All background loops."""
        return (
            self.feed.loop,
            self.feed.pings,
            *self.presence.loops,
            self.runs.loop,
            *self.engine.loops,
            *self.sender.loops,
            *self._alone,
        )

    @property
    def _alone(self) -> tuple[Loop, ...]:
        """Those of parts that have no more to start than a loop."""
        return (
            self.janitor.loop,
            *((self.scheduler.loop,) if self.role.fires_schedules else ()),
            self.pausing,
            self.lag.loop,
            self.admissions.loop,
            self.attention.loop,
        )

    def now(self) -> str:
        return timestamp(self.clock())

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """With the database open, at its newest migration: what a command needs. Raises StartupError."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_stop, self.database.stop)
            await self.database.start()
            await check(self.database)
            await self._engine.check(self.database)
            self.presence.engine = self.settings.jobs_engine.value if self.role.runs_jobs else "none"
            stack.push_async_callback(_stop, self.commits.close)
            yield self

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """The same, with the resources that tasks use; once. Raises StartupError."""
        if self._was_opened:  # its parts have drained, or stopped halfway
            raise StartupError("this app was started before, and starts only once; make another one by create_app()")
        self._was_opened = True
        async with (
            self.connected(),
            UpstreamClient(self.settings, transport=self._transport, headers=outgoing_headers) as client,
        ):
            self.resources[UpstreamClient] = client
            if is_wanted():
                client.on_sent = record_call
            self.gauges["qaa_upstream_calls_in_flight"] = lambda: client.in_flight
            self.gauges["qaa_upstream_calls_waiting"] = lambda: client.waiting
            self.resources[ComicCatalogue] = ComicCatalogue(client, self.settings.comic_base_url)
            async with AsyncExitStack() as stack:
                for opener in self._openers:
                    resource = await stack.enter_async_context(opening(opener, self.settings, self.resources))
                    self.resources[type(resource)] = resource
                yield self

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run jobs, callbacks and all loops of an opened service; drain them when the block ends.

        Each part is stopped whatever becomes of the others. Raises DatabaseUnavailable.
        """
        async with AsyncExitStack() as stack:
            background = BackgroundTasks()
            if is_wanted() and recorder() is None:  # else another app of this process has one
                await stack.enter_async_context((await asyncio.to_thread(_write_spans))())
            stack.push_async_callback(_stop, self.refusals.close)
            stack.push_async_callback(_stop, self.notifications.close)
            stack.push_async_callback(_stop, background.close, grace=2)
            if self.database.url.file is None:
                background.spawn(self._hearing.run(), name=self._hearing.name)
            if self.settings.metrics and is_installed():
                self._measure(background, await asyncio.to_thread(_metrics))
            stack.callback(self.loop_watch.stop)
            self.loop_watch.start()
            self.feed.start(background)
            self.key_ring.start(background)
            await self.key_ring.keys()
            await self.store.pauses.refresh()  # before the first job can begin
            stack.push_async_callback(_stop, self.presence.stop)
            await self.presence.start(background)
            stack.push_async_callback(_stop, self.poster.aclose)
            stack.push_async_callback(_stop, self.sender.stop)
            stack.push_async_callback(_stop, self.engine.stop)
            # From here on: an engine that fails in its start may have begun runs, which are given back.
            stack.push_async_callback(_stop, self.lifecycle.drain)
            await self.engine.start()
            self.sender.start()
            counting = (self.figures.loop,) if self.figures.kept else ()
            for loop in (*self._alone, *counting):
                background.spawn(loop.run(), name=loop.name)
            self.lifecycle.started.set()
            yield self

    def _measure(self, background: BackgroundTasks, metrics: "Metrics") -> None:
        """Count what happens, for /metrics."""
        self.metrics = metrics
        self.store.log.listeners.append(
            lambda end: metrics.attempt(end.task, end.outcome, end.queued, end.ran, retried=end.retried)
        )
        self.loop_watch.listeners.append(metrics.block)
        self.presence.on_buried.append(lambda worker: metrics.count("qaa_workers_buried_total"))
        self.presence.on_lost.append(lambda: metrics.count("qaa_leases_lost_total"))
        self.sender.on_tried = lambda outcome: metrics.count("qaa_callback_attempts_total", outcome)
        if metrics.shares:  # another process may be asked for the gauges of this one

            async def refresh() -> None:
                metrics.refresh(self.gauges)

            background.spawn(Loop("metrics", refresh, every=METRICS_SECONDS).run(), name="metrics")
