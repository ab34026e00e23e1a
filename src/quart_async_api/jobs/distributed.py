"""The distributed engine: procrastinate hands out the tickets of queued jobs to any number of processes on any hosts.

The jobs table stays the truth: a ticket only says which job to look at. `Presence` and the run tokens are those of any engine.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from ..background.tasks import BackgroundTasks
from ..db.failures import translated
from ..db.notifications import Notifications, Wake
from ..db.safe_psycopg import UNAVAILABLE
from ..db.url import DatabaseUrl
from ..errors import DatabaseUnavailable
from ..moments import moment
from ..settings import Settings
from .reconciler import Reconciler
from .run import Run
from .runs import FAREWELL_SECONDS, Runs
from .states import JobRecord, Status
from .tickets import PUT_BACK_SECONDS, TASK, DistributedDispatch, exchange, queue_of

log = logging.getLogger(__name__)
logging.getLogger("procrastinate").setLevel(logging.WARNING)  # else three lines for each ticket

T = TypeVar("T")

POLL_SECONDS = 0.5  # how late work is seen if its wake-up is lost
TIMER_SECONDS = 3600.0  # what is further off, the poll will find
RECONNECT_SECONDS = 0.5
CONNECTIONS = 4  # of the worker
CONNECT_SECONDS = 5
FORGET_SECONDS = 86_400.0  # after which procrastinate drops the row of a worker: one that is frozen may come back
_NEWS = '{"type": "job_inserted", "job_id": 0}'  # a worker fetches whatever is there


class DistributedEngine:
    """Runs the jobs of this process's tasks, whose tickets procrastinate's worker fetches."""

    def __init__(
        self,
        runs: Runs,
        dispatch: DistributedDispatch,
        notifications: Notifications,
        url: DatabaseUrl,
        settings: Settings,
    ) -> None:
        self._runs = runs
        self._notifications = notifications
        self._concurrency = settings.job_concurrency
        self._beat_seconds = min(10.0, settings.lease_seconds / 3)
        self._connector = _Connector(url, lambda: [queue_of(task) for task in runs.readiness.tasks])
        self._app = App(connector=self._connector)
        self._app.task(name=TASK)(self._run_job)
        self._open = True
        self._background = BackgroundTasks()
        self._worker: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._reconciler = Reconciler(lambda: self._connector.pool, lambda: runs.presence.others, self._has_news)
        self.loops = (self._reconciler.loop,)
        dispatch.listeners.append(self._dispatched)
        runs.on_ended = self._room.set
        notifications.on(Wake.WORK, lambda _: self._connector.news.set())
        notifications.on(Wake.DEATH, lambda _: self._reconciler.hurry())
        runs.presence.on_buried.append(lambda _: self._reconciler.hurry())
        notifications.on(Wake.CANCEL, lambda ids: [runs.cancel(job_id) for job_id in ids])

    async def start(self) -> None:
        self._background = BackgroundTasks()
        self._runs.start()
        with translated():
            await self._app.open_async()
        self._worker = self._background.spawn(self._work(), name="worker of tickets")
        for loop in self.loops:
            self._background.spawn(loop.run(), name=loop.name)

    async def drain(self, grace: float) -> None:
        began = time.monotonic()
        self._open = False
        self._connector.is_closing = True
        self._runs.close()
        self._room.set()
        if self._worker is not None:  # it fetches no more, and lets go of the runs
            self._worker.cancel()
            await asyncio.wait((self._worker,), timeout=max(grace, FAREWELL_SECONDS))
        await self._runs.drain(grace - (time.monotonic() - began))

    async def stop(self) -> None:
        self._open = False
        self._connector.is_closing = True
        await self._runs.stop()
        await self._background.close(grace=FAREWELL_SECONDS)
        await self._app.close_async()

    def _dispatched(self, job: JobRecord) -> None:
        if job.status is not Status.QUEUED:
            if not self._runs.cancel(job.id) and job.status is Status.RUNNING:
                self._notifications.tell(Wake.CANCEL, job.id)
            return
        wait = (moment(job.run_at) - self._runs.clock()).total_seconds()
        if job.stage == "ready" or wait <= 0:
            self._has_news()
        elif wait < TIMER_SECONDS:
            context = self._background.context()
            asyncio.get_running_loop().call_later(wait, self._connector.news.set, context=context)

    def _has_news(self) -> None:
        self._connector.news.set()
        self._notifications.tell(Wake.WORK)

    async def _work(self) -> None:
        while self._open:
            try:
                await self._app.run_worker_async(
                    queues=[queue_of(task) for task in self._runs.readiness.mine],
                    name="quart-async-api",
                    concurrency=self._concurrency,
                    fetch_job_polling_interval=POLL_SECONDS,
                    abort_job_polling_interval=FORGET_SECONDS,  # `Runs` looks for cancellations
                    shutdown_graceful_timeout=0,  # `Runs` has what runs, and gives it back
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=self._beat_seconds,
                    stalled_worker_timeout=FORGET_SECONDS,
                )
            except Exception as error:
                if self._open:
                    log.error("the worker of tickets ended, and starts again", exc_info=error)
            if self._open:
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _run_job(self, job_id: str) -> None:
        """Hold a ticket until its job has run here. If the worker ends meanwhile, this is cancelled, and the run goes on."""
        used = asyncio.get_running_loop().create_future()
        over = self._background.spawn(self._use(job_id, used), name=f"ticket of job {job_id}")
        try:
            await asyncio.shield(over)
        finally:
            await asyncio.wait(
                (used, over), return_when=asyncio.FIRST_COMPLETED
            )  # procrastinate deletes the ticket then

    async def _use(self, job_id: str, used: "asyncio.Future[None]") -> None:
        """Claim a job by the ticket, or put the ticket back. Set `used` then, and wait for the end of the run."""
        try:
            run = await self._claimed(job_id)
        finally:
            used.set_result(None)
        if run is None or run.job.id != job_id:  # there may be another ticket now
            asyncio.get_running_loop().call_later(PUT_BACK_SECONDS, self._connector.news.set)
        if run is not None:
            await asyncio.wait((run.life,))

    async def _claimed(self, job_id: str) -> Run | None:
        while self._open and self._runs.free <= 0:  # runs that an earlier worker of this process has begun
            self._room.clear()
            await self._room.wait()
        while self._open:
            try:
                return await self._runs.take_turn(job_id, exchange)
            except DatabaseUnavailable as error:
                log.debug("job %s waits: %s", job_id, error)
                await asyncio.sleep(RECONNECT_SECONDS)
        with suppress(DatabaseUnavailable):  # else the reconciler of another process writes it
            await self._runs.store.commits.run(lambda: exchange((), (job_id,)))
        return None


class _Connector(PsycopgConnector):
    """Connections of the worker. It waits while the database is away, where procrastinate's own ends the worker.

    Set `news` when there may be new tickets: it takes the place of a connection that listens.
    """

    def __init__(self, url: DatabaseUrl, queues: Callable[[], list[str]]) -> None:
        super().__init__(
            conninfo=url.conninfo(CONNECT_SECONDS),
            pool_factory=_pool,
            min_size=1,
            max_size=CONNECTIONS,
            timeout=CONNECT_SECONDS,
            kwargs={"autocommit": True},
        )
        self.is_closing = False
        self.news = asyncio.Event()
        self._queues = queues
        self._waits = False

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        await self._patiently(super().execute_query_async, query, arguments)

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        if "queues" in arguments:  # a fetch: without tasks that this process cannot begin at the moment
            arguments["queues"] = self._queues()
        return await self._patiently(super().execute_query_one_async, query, arguments)

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        return await self._patiently(super().execute_query_all_async, query, arguments)

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            await on_notification(channel="", payload=_NEWS)

    async def _patiently(self, send: Callable[..., Awaitable[T]], query: Any, arguments: dict[str, Any]) -> T:
        while True:
            try:
                answer = await send(query, **arguments)
            except ConnectorException as error:
                if self.is_closing or not isinstance(error.__cause__, UNAVAILABLE):
                    raise
                if not self._waits:
                    log.warning("the worker of tickets waits for the database: %s", error.__cause__)
                self._waits = True
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self._waits = False
                return answer


def _pool(*, check: object, **options: Any) -> psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
    # Without the check of each connection before its use, one more round trip: what fails is sent again.
    return psycopg_pool.AsyncConnectionPool(**options)
