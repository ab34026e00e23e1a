"""Services that call back, any number on one database, and what they call."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from aiohttp.abc import AbstractResolver

from quart_async_api import Settings
from quart_async_api.access.caller import ANYONE, Caller
from quart_async_api.callbacks import sender as sender_module
from quart_async_api.callbacks.outbox import TERMINAL_TYPES
from quart_async_api.db.group_commit import Unit
from quart_async_api.jobs.states import JobRecord
from quart_async_api.moments import ServiceClock, later, moment
from quart_async_api.services.submissions import Callback, Options
from quart_async_api.tasks import registry
from tests.engine import conftest as engine
from tests.engine import sample_tasks
from tests.engine.conftest import until

from .receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the published one
SCHEDULE = (0.0, 5.0, 300.0, 1800.0)

Document = dict[str, Any]


class Service(engine.Service):
    """With what calls back."""

    async def start_sender(self) -> None:
        with self.database.bind():
            await self.presence.start(self.background)
            self.sender.start()

    async def start_engine(self) -> None:
        await super().start_engine()
        self.sender.start()

    async def stop(self) -> None:
        await self.sender.stop()
        await self.poster.aclose()
        with suppress(Exception):
            await self.presence.stop()
        await super().stop()

    async def die(self) -> None:
        run, self.commits.run = self.commits.run, _never  # type: ignore[assignment, method-assign]
        await self.sender._background.close(grace=0.1)
        self.commits.run = run  # type: ignore[method-assign]
        await super().die()

    async def write(self, *statements: tuple[str, Sequence[Any]]) -> None:
        def unit() -> Unit[None]:
            for statement in statements:  # noqa: UP028 - a tuple's iterator takes no results
                yield statement

        await self.commits.run(unit)

    async def know(self, *secrets: str, key_id: str = "", expires_at: str | None = None) -> None:
        insert = "INSERT INTO webhook_secrets (key_id, secret, created_at, expires_at) VALUES (?, ?, ?, ?)"
        await self.write(*((insert, (key_id, secret, self.now(), expires_at)) for secret in secrets))

    def called_back(self, url: str, *events: str, **options: Any) -> Options:
        return Options(callback=Callback(url, events or TERMINAL_TYPES), **options)

    async def ended(self, url: str, owner: str | None = None) -> JobRecord:
        """A job of the key `owner` that has ended just now, and calls back."""
        tomorrow = datetime.now(UTC) + timedelta(days=100)
        task, options = self.submissions.task("double"), self.called_back(url, run_at=tomorrow)
        arguments = self.submissions.arguments(task, {"number": 1})
        caller = Caller(owner) if owner else ANYONE
        job = await self.submissions.submit(task, arguments, options, caller=caller)
        await self.submissions.cancel(job.id)
        return job

    async def callbacks_of(self, job: JobRecord | str) -> list[Document]:
        return await self.callback_reading.of_job(job if isinstance(job, str) else job.id)

    async def attempts(self, job: JobRecord, number: int) -> list[Document]:
        """The attempts at the one callback of a job, when there are so many."""
        await until(lambda: self._are_tried(job, number))
        [callback] = await self.callbacks_of(job)
        attempts: list[Document] = callback["attempts"]
        return attempts

    async def _are_tried(self, job: JobRecord, number: int) -> bool:
        return all(len(callback["attempts"]) >= number for callback in await self.callbacks_of(job))

    async def settled(self, *jobs: JobRecord) -> list[Document]:
        """The callbacks of jobs, when none is to be sent any more."""

        async def are_settled() -> bool:
            return not any(callback["status"] == "pending" for callback in await self._all(jobs))

        await until(are_settled)
        return await self._all(jobs)

    async def _all(self, jobs: Sequence[JobRecord]) -> list[Document]:
        return [callback for job in jobs for callback in await self.callbacks_of(job)]

    async def origins(self) -> dict[str, Mapping[str, Any]]:
        return {row["origin"]: row for row in await self.database.read("SELECT * FROM callback_queues")}

    async def let_go(self) -> None:
        """Until no origin is being served."""
        await until(lambda: not self.sender._serving)

    def pass_time(self, seconds: float) -> None:
        self.clock.ahead += timedelta(seconds=seconds)
        self.sender.wake()

    async def pass_to(self, callback: Document) -> None:
        """Let the clock show the time of the next try."""
        self.pass_time((moment(callback["next_attempt_at"]) - self.clock()).total_seconds() + 0.001)


async def _never(*_: object) -> Any:
    await asyncio.Event().wait()


def is_after(callback: Document, seconds: float) -> bool:
    """Whether the next try is so many seconds after the last one, with jitter of at most a tenth."""
    first, last = (later(callback["attempts"][-1]["at"], seconds * factor) for factor in (1, 1.1))
    return first <= str(callback["next_attempt_at"]) <= last


Make = Callable[..., Awaitable[Service]]
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # where the database makes no difference


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "quart_async_api")


@pytest.fixture(autouse=True)
def _forget() -> None:
    sample_tasks.reset()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.02)


@pytest.fixture
async def make(backend: str) -> AsyncIterator[Make]:
    """Makes services on the one database, and starts their senders: `make(sender=False, engine=True, **settings)`."""
    async with AsyncExitStack() as stack:
        first = True

        async def make(
            *,
            sender: bool = True,
            engine: bool = False,
            resolver: AbstractResolver | None = None,
            verify: ssl.SSLContext | None = None,
            clock: ServiceClock | None = None,
            **settings: Any,
        ) -> Service:
            nonlocal first
            given = {
                "lease_seconds": 0.6,
                "cancel_seconds": 0.3,
                "drain_seconds": 0.3,
                "callback_schedule": SCHEDULE,
                "callback_timeout": 5.0,
                "callback_allow_private": True,
                **settings,
            }
            tasks = registry([sample_tasks])
            service = Service(
                Settings(database_url=backend, **given),
                tasks,
                clock or ServiceClock(),
                callback_resolver=resolver,
                callback_verify=verify,
            )
            stack.push_async_callback(service.stop)
            await service.start(engine=engine)
            if first:
                await service.know(SECRET)
                first = False
            if sender and not engine:
                await service.start_sender()
            return service

        yield make


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def another() -> AsyncIterator[Receiver]:
    """At another origin."""
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What takes the certificates of the authority alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


Certified = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="session")
def certified(authority: trustme.CA) -> Certified:
    """A server's side of TLS: `certified("name", by=another_authority)`."""

    def make(*names: str, by: trustme.CA = authority) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        by.issue_cert(*names).configure_cert(context)
        return context

    return make
