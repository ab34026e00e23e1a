"""PostgreSQL that takes no writes, no statements or no connections for a while: what was accepted before ends after it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import ModuleType
from typing import Any, cast

import psycopg
import pytest
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.server.watchdog import Watchdog
from quart_async_api.service import Service
from quart_async_api.settings import JobsEngine
from tests.callbacks.receiver import Receiver
from tests.postgresql import PostgreSQL, of_psycopg

from . import sample_tasks
from .conftest import until
from .sample_tasks import executions, gate, running

pytestmark = pytest.mark.process
HELD = 4
LEASE_SECONDS = 0.6


class _Fleet:
    """Two API processes on one database, with jobs that run, their watchers and the target of their callbacks."""

    def __init__(self, services: list[Service], clients: list[QuartClient], receiver: Receiver) -> None:
        self.services = services
        self.clients = clients
        self.receiver = receiver
        self.accepted: list[str] = []
        self._watching: list[asyncio.Task[str]] = []

    async def submit(self, client: QuartClient, task: str = "hold") -> HTTPStatus:
        body = {"task": task, "args": {} if task == "hold" else {"number": 1}, "callback_url": self.receiver.url}
        answer = await client.post("/jobs", json=body)
        if answer.status_code == HTTPStatus.ACCEPTED:
            job = (await answer.get_json())["id"]
            self.accepted.append(job)
            self._watching.append(asyncio.create_task(self._watch(self.clients[len(self.accepted) % 2], job)))
        else:
            await _is_clear(answer)
        return HTTPStatus(answer.status_code)

    async def _watch(self, client: QuartClient, job: str) -> str:
        """The last event of a stream of the job, which ends after it."""
        while True:
            answer = await client.get(f"/jobs/{job}/events")
            if answer.status_code == HTTPStatus.OK:
                told = await answer.get_data(as_text=True)
                if "event: " in told:
                    return str(told.rpartition("event: ")[2].partition("\n")[0])
            await asyncio.sleep(0.05)

    async def begin(self) -> None:
        for number in range(HELD):
            assert await self.submit(self.clients[number % 2]) is HTTPStatus.ACCEPTED
        await until(lambda: len(running) == HELD)

    async def is_cut_off(self, leases: int) -> None:
        """Wait until no heartbeat has been written for so many leases."""
        seconds, beats = leases * LEASE_SECONDS, [service.presence.heartbeat for service in self.services]
        await until(lambda: all(beat.late > seconds for beat in beats), 10 + 2 * seconds)

    async def is_over(self) -> None:
        """Check that the service works again, and that everything agrees."""

        async def accepts() -> bool:
            accepted = [await self.submit(client, "double") for client in self.clients]
            return accepted == [HTTPStatus.ACCEPTED] * 2

        await until(accepts)
        gate("gate").set()
        async with asyncio.timeout(120):
            assert {await watching for watching in self._watching} == {"succeeded"}
        assert set(executions.values()) == {1}
        await until(lambda: set(self.receiver.jobs) >= set(self.accepted))
        rows = self.services[0].database.rows

        async def is_done() -> (
            bool
        ):  # the last callback is recorded after it was answered, a ticket removed after its run
            left = await rows(
                "SELECT id FROM jobs WHERE status IN ('queued', 'running') UNION ALL SELECT queueing_lock FROM "
                "procrastinate_jobs UNION ALL SELECT job_id FROM callback_deliveries WHERE status = 'pending'"
            )
            return not left

        await until(is_done)
        ended = "SELECT id, status, attempt, crashes FROM jobs ORDER BY id"
        assert await rows(ended) == [(job, "succeeded", 1, 0) for job in sorted(self.accepted)]
        assert await rows("SELECT unfinished, jobs FROM job_usage") == [(0, len(self.accepted))]
        ends = await rows("SELECT job_id, COUNT(*) FROM job_events WHERE name = 'succeeded' GROUP BY job_id")
        assert sorted(ends) == [(job, 1) for job in sorted(self.accepted)]


async def _is_clear(answer: Any) -> None:
    problem = json.loads(await answer.get_data())
    assert (answer.status_code, problem["type"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "/problems/database-unavailable")
    assert problem["detail"]
    assert int(answer.headers["Retry-After"]) > 0


@pytest.fixture(params=list(JobsEngine))
async def fleet(request: pytest.FixtureRequest, distributed_postgresql: str) -> AsyncIterator[_Fleet]:
    sample_tasks.reset()
    settings = Settings(
        database_url=f"{distributed_postgresql}&timeout=2",
        jobs_engine=request.param,
        lease_seconds=LEASE_SECONDS,
        drain_seconds=1,
        callback_allow_private=True,
        callback_schedule=(0.0, 0.1, 0.1),
    )
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        tasks = ModuleType("without schedules")
        vars(tasks).update(hold=sample_tasks.hold, double=sample_tasks.double)
        apps = [create_app(settings, tasks=[tasks]) for _ in range(2)]
        for app in apps:
            await stack.enter_async_context(app.test_app())  # type: ignore[arg-type]
        services = [app.service for app in apps]
        with services[0].database.bind():
            await services[0].secrets.create()
        yield _Fleet(services, [cast("QuartClient", app.test_client()) for app in apps], receiver)


class _Away:
    """Changes the database and cuts its connections, so that new ones find it changed; all back as it was afterwards."""

    def __init__(self, server: PostgreSQL, url: str, during: str, afterwards: str) -> None:
        self._server = server
        self._name = url.partition("@/")[2].partition("?")[0]
        self._changes = [f'ALTER DATABASE "{self._name}" {change}' for change in (during, afterwards)]

    def _change(self, sql: str) -> None:
        cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        with self._server.connect() as connection:
            connection.execute(sql.encode())
            connection.execute(cut, (self._name,))

    def __enter__(self) -> None:
        self._change(self._changes[0])

    def __exit__(self, *_: object) -> None:
        self._change(self._changes[1])


@pytest.fixture
def read_only(postgresql: PostgreSQL, distributed_postgresql: str) -> _Away:
    during, afterwards = (f"SET default_transaction_read_only = {state}" for state in ("on", "off"))
    return _Away(postgresql, distributed_postgresql, during, afterwards)


@pytest.fixture
def full(postgresql: PostgreSQL, distributed_postgresql: str) -> _Away:
    return _Away(postgresql, distributed_postgresql, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true")


@pytest.mark.parametrize("leases", [3, pytest.param(100, marks=pytest.mark.soak)])
async def test_while_postgresql_is_read_only_writes_are_refused_and_nothing_is_lost(
    fleet: _Fleet, read_only: _Away, leases: int
) -> None:
    await fleet.begin()
    one, other = fleet.clients
    with read_only:

        async def is_refused() -> bool:
            return await fleet.submit(one) is await fleet.submit(other) is HTTPStatus.SERVICE_UNAVAILABLE

        await until(is_refused)
        await _is_clear(await one.post("/add-user", json={"name": "a", "email": "a@example.org"}))
        await _is_clear(await other.delete(f"/jobs/{fleet.accepted[0]}"))
        assert (await one.get(f"/jobs/{fleet.accepted[0]}")).status_code == HTTPStatus.OK
        gate("gate").set()
        await until(lambda: not running)  # their outcomes wait
        await fleet.is_cut_off(leases)
    await fleet.is_over()


@pytest.mark.slow
async def test_while_every_statement_waits_all_is_refused_and_nothing_hangs_or_is_lost(
    fleet: _Fleet, distributed_postgresql: str
) -> None:
    await fleet.begin()
    async with await psycopg.AsyncConnection.connect(of_psycopg(distributed_postgresql)) as locks:
        await locks.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        gate("gate").set()
        await until(lambda: not running)
        # More than there are connections: some wait for a lock, and the others for a connection.
        requests = [client.get(f"/jobs/{fleet.accepted[0]}") for client in fleet.clients for _ in range(30)]
        submissions = [fleet.submit(client) for client in fleet.clients for _ in range(5)]
        async with asyncio.timeout(60):
            for answer in await asyncio.gather(*requests):
                await _is_clear(answer)
            assert set(await asyncio.gather(*submissions)) == {HTTPStatus.SERVICE_UNAVAILABLE}
            assert [(await client.get("/health/live")).status_code for client in fleet.clients] == [HTTPStatus.OK] * 2
        await locks.rollback()
    await fleet.is_over()


@pytest.mark.slow
async def test_while_postgresql_takes_no_connections_all_is_refused_and_nothing_is_lost(
    fleet: _Fleet, full: _Away
) -> None:
    await fleet.begin()
    with full:
        for client in fleet.clients:
            assert await fleet.submit(client) is HTTPStatus.SERVICE_UNAVAILABLE
            await _is_clear(await client.get(f"/jobs/{fleet.accepted[0]}"))
            ready = await client.get("/health/ready")
            assert ready.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert "no connection within 2 s" in await ready.get_data(as_text=True)
        gate("gate").set()
        await fleet.is_cut_off(3)
    await fleet.is_over()


async def test_a_worker_that_was_cut_off_for_two_leases_goes_on_and_no_crash_is_counted(
    fleet: _Fleet, read_only: _Away
) -> None:
    dogs = [Watchdog(service) for service in fleet.services]
    for service in fleet.services:  # as `create_worker` does
        service.presence.on_cut_off.append(service.runs.let_go)
    await fleet.begin()
    begun = Counter(executions)
    with read_only:
        await until(lambda: not running)  # no other may run the jobs beside it
        assert not any(dog.is_silent(3600.0) for dog in dogs), "a heartbeat that fails is an answer"
    await until(lambda: len(running) == HELD)
    assert executions == begun + begun
    executions.subtract(begun)
    await fleet.is_over()
