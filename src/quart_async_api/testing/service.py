"""An app on a database of its own, whose jobs and clock a test moves."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from croniter import croniter

from ..access.caller import Scope
from ..app import App
from ..client import AsyncClient, Job
from ..errors import JobExpired, JobNotFound
from ..moments import ServiceClock, moment, timestamp
from ..tasks import Task
from .clients import InProcessClient, InProcessTransport
from .inbox import Inbox, receiving
from .worker import HandWorker, call

if TYPE_CHECKING:
    from quart.testing import QuartClient

    from ..service import Service
    from ..settings import Settings


class ServiceUnderTest:
    """A running app, with its `settings`, its Quart test `client`, and `api`, the Python client of the service.

    Jobs run `by_hand`: those that are due, when the test calls `drain`; `inline`: the same at once, and a call of a client
    returns when they have ended; or `live`: as in production. The clock stands still until the test moves it; with live jobs,
    it goes on from there.
    """

    def __init__(self, app: App, worker: HandWorker, stack: AsyncExitStack) -> None:
        self.app: App = app
        self.settings: Settings = app.service.settings
        self._service: Service = app.service
        self._clock = cast("ServiceClock", app.service.clock)
        self._worker = worker
        self._stack = stack
        self.client: QuartClient = InProcessClient(app, self._after_call)
        self.api: AsyncClient = self.connect()

    def connect(self, token: str | None = None) -> AsyncClient:
        """Return a Python client of the service, with this API key."""
        transport = InProcessTransport(self.app, self._after_call)
        client = AsyncClient("http://localhost", token=token, transport=transport, patience=0)
        self._stack.push_async_callback(client.aclose)
        return client

    async def new_key(self, *scopes: Scope | str, name: str | None = None) -> str:
        """Make an API key, with the scopes read and write by default; return its text. From now on, routes ask for a key."""
        _, text = await self._service.keys.create(name, [Scope(scope) for scope in scopes])
        return text

    async def open_inbox(self) -> Inbox:
        """Open a receiver of callbacks, until the end of the test."""
        return await self._stack.enter_async_context(receiving(self._service))

    # Jobs

    @property
    def enqueued(self) -> list[Job]:
        """All jobs so far, as they were enqueued, first to last: by callers, code and schedules."""
        return [Job.parse(record.document()) for record in self._worker.inserted]

    def assert_enqueued(self, task: Task | str, /, **arguments: object) -> Job:
        """Return the last job of this task with these arguments, among others, as it was enqueued.

        Raises AssertionError if there is none, and TypeError for an argument that the task does not have.
        """
        if found := self._worker.find(task, arguments):
            return Job.parse(found[-1].document())
        raise AssertionError(f"no job {call(task, arguments)} was enqueued; there are {self._worker.calls()}")

    def refute_enqueued(self, task: Task | str, /, **arguments: object) -> None:
        """Raise AssertionError if there is a job of this task with these arguments, among others."""
        if self._worker.find(task, arguments):
            raise AssertionError(f"a job {call(task, arguments)} was enqueued; there are {self._worker.calls()}")

    async def drain(self) -> list[Job]:
        """Run the jobs that are due until there are none, and send the callbacks that are due. Return the jobs that ran.

        A retry or a delayed job is due when the clock is moved to its time.
        """
        before = len(self._worker.ended)
        await self._worker.drain()
        found = [await self._job(job_id) for job_id in dict.fromkeys(self._worker.ended[before:])]
        return [job for job in found if job is not None]

    async def _job(self, job_id: str) -> Job | None:
        try:
            return Job.parse((await self._service.store.reading.get(job_id, None)).document())
        except (JobExpired, JobNotFound):
            return None

    async def _after_call(self) -> None:
        if self._worker.jobs == "inline":
            await self._worker.drain()

    # Time

    @property
    def now(self) -> datetime:
        """The time of the service."""
        return self._clock()

    async def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move the clock forward: see `advance_to`."""
        await self.advance_to(self.now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))

    async def advance_to(self, until: datetime) -> None:
        """Move the clock forward to `until`, and stop on the way where something is due.

        Schedules fire, callbacks are tried again, and jobs run, unless by hand. Then expired jobs are deleted.
        Timeouts of tasks, limits of rates and leases do not follow this clock.
        """
        if until.tzinfo is None:
            raise ValueError(f"{until} has no time zone: write it as qaa_service.now.replace(…), or with tzinfo=UTC")
        if until < self.now:
            raise ValueError(f"the clock is at {self.now}, and goes forward only")
        until = until.astimezone(UTC)  # schedules and days go by the zone of the clock
        while (due := await self._next_due()) <= timestamp(until):
            await self._turn(moment(due))
        await self._turn(max(until, self.now))
        await self._service.janitor.clean()
        for loop in self._service.loops:
            loop.wake()

    async def _turn(self, now: datetime) -> None:
        if self._worker.jobs == "live":
            self._clock.ahead += now - self._clock()
        else:
            self._clock.stopped_at = max(now, self._clock())
        await self._service.scheduler.fire()
        if self._worker.jobs == "by_hand":
            while await self._service.sender.until_idle():
                pass
        else:
            await self._worker.drain()

    async def _next_due(self) -> str:
        """Return the timestamp at which something is due next."""
        now = self.now
        times = [
            timestamp(croniter(task.schedule, now).get_next(datetime))
            for task in self._service.tasks.values()
            if task.schedule is not None and task.name not in self._service.store.pauses.names
        ]
        waiting = ["SELECT MIN(next_at) FROM callback_queues WHERE next_at > ?"]
        if self._worker.jobs != "by_hand":
            waiting.append("SELECT MIN(run_at) FROM jobs WHERE stage = 'delayed' AND run_at > ?")
        for query in waiting:
            [[due]] = await self._service.database.rows(query, timestamp(now))
            times += [] if due is None else [due]
        return min(times, default="~")  # after every timestamp
