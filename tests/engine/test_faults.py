"""What survives the death, the silence and the stop of a process, and a database that cannot be written."""

import asyncio
import json
import logging
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from quart_async_api.db.group_commit import Unit
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.jobs import runs
from quart_async_api.jobs.liveness import liveness
from quart_async_api.jobs.reading import Running
from quart_async_api.jobs.scheduler import Scheduler
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import Backoff, TaskContext, task

from .conftest import Make, Service, until
from .sample_tasks import executions, gate, running


@pytest.fixture(params=["embedded", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    """All of this holds for both engines of the service."""
    return str(request.param)


async def _held(service: Service) -> JobRecord:
    """A job that runs and does not end before its gate is opened."""
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    return job


async def test_two_engines_run_every_attempt_once(make: Make) -> None:
    services = [await make(job_concurrency=5), await make(job_concurrency=5)]
    jobs = await asyncio.gather(*(services[number % 2].submit("double", number=number) for number in range(100)))
    for job in jobs:
        ended = await services[0].wait(job)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)
    assert set(executions.values()) == {1}
    assert len(executions) == 100


async def test_the_jobs_of_a_dead_process_run_at_once_and_spend_no_retry(make: Make) -> None:
    dying = await make(lease_seconds=60)
    job = await _held(dying)
    other = await make(lease_seconds=60)
    await dying.die()
    await until(lambda: executions[job.id] == 2)
    gate("gate").set()
    ended = await other.wait(job)
    assert (ended.status, ended.attempt, ended.failures, ended.crashes) == (Status.SUCCEEDED, 2, 0, 1)
    assert [attempt["outcome"] for attempt in await other.store.reading.attempts(job.id)] == ["crashed", "succeeded"]
    assert await other.events(job) == ["retry", "succeeded"]


async def test_a_job_that_kills_its_process_each_time_fails(make: Make) -> None:
    watcher = await make(engine=False)
    job = await watcher.submit("hold")
    for attempt in (1, 2):
        dying = await make(lease_seconds=60, crash_limit=2)
        await until(lambda attempt=attempt: executions[job.id] == attempt)  # type: ignore[misc]
        await until(lambda: job.id in running)
        await dying.die()
    await make(lease_seconds=60, crash_limit=2)
    ended = await watcher.wait(job)
    assert (ended.status, ended.attempt, ended.crashes) == (Status.FAILED, 2, 2)
    assert json.loads(ended.error or "")["type"] == "/problems/task-crashed"
    assert executions[job.id] == 2


async def test_a_job_that_was_to_be_cancelled_when_its_process_died_is_cancelled(make: Make) -> None:
    dying = await make(lease_seconds=60)
    job = await _held(dying)
    await dying.die()
    other = await make(engine=False)
    await other.submissions.cancel(job.id)
    await other.start_engine()
    assert (await other.wait(job)).status is Status.CANCELLED


async def test_a_process_that_does_not_answer_loses_its_jobs_and_what_it_writes_is_refused(make: Make) -> None:
    silent = await make()
    job = await _held(silent)
    token = (await silent.store.reading.get(job.id, None)).run_token or ""
    worker = silent.presence.id
    _task_named(silent, "heartbeat").cancel()
    other = await make()
    await until(lambda: executions[job.id] == 2)

    assert (
        await silent.store.transitions.finish(job.id, token, Status.SUCCEEDED, job.created_at, 60, result="0") is None
    )
    assert await silent.store.transitions.retry(job.id, token, job.created_at, job.created_at, "{}", 60) is None
    assert not await silent.store.transitions.give_back(job.id, token, job.created_at, 60)
    assert not await silent.store.transitions.record(job.id, token, job.created_at, "log", {}, 100)
    assert await silent.store.claims.claim(["hold"], 10, worker, job.created_at, lambda: "token") == []

    gate("gate").set()
    ended = await other.wait(job)
    assert (ended.status, ended.result, ended.attempt) == (Status.SUCCEEDED, "2", 2)
    await until(lambda: len(silent.runs) == 0)
    assert await other.store.reading.get(job.id, None) == ended


async def test_a_process_that_was_given_up_enlists_again(make: Make) -> None:
    silent = await make()
    job = await _held(silent)
    worker = silent.presence.id
    await silent.store.crashes.bury(worker, job.created_at, 60, 3, "{}")
    # It takes its own job back, while the run that it lost may still be ending.
    await until(lambda: silent.presence.id != worker and executions[job.id] == 2 and len(running) == 1)
    gate("gate").set()
    ended = await silent.wait(job)
    assert (ended.attempt, ended.crashes, ended.status) == (2, 1, Status.SUCCEEDED)
    await until(lambda: len(silent.runs) == 0)
    assert set(await silent.store.workers.beats()) == {silent.presence.id}


def _task_named(service: Service, name: str) -> "asyncio.Task[object]":
    return next(task for task in service.background._tasks if task.get_name() == name)


async def test_a_claim_that_was_committed_unheard_of_is_given_back(service: Service) -> None:
    job = await service.submit("hold", Options(run_at=service.submissions.later(3600)))
    claimed = await service.store.claims.claim(
        ["hold"], 1, service.presence.id, "9000-01-01T00:00:00.000000Z", lambda: "unheard of"
    )
    assert [one.id for one in claimed] == [job.id]
    # Given back, and ready at once, as it was when it was claimed.
    await until(lambda: executions[job.id] == 1)
    gate("gate").set()
    assert ((await service.wait(job)).attempt, executions[job.id]) == (1, 1)


async def test_a_claim_that_was_committed_unheard_of_and_then_cancelled_is_cancelled(service: Service) -> None:
    job = await service.submit("hold", Options(run_at=service.submissions.later(3600)))
    async with service.runs._claiming:  # before the sweep sees it
        await service.store.claims.claim(
            ["hold"], 1, service.presence.id, "9000-01-01T00:00:00.000000Z", lambda: "unheard of"
        )
        await service.submissions.cancel(job.id)
    ended = await service.wait(job)
    assert (ended.status, ended.run_token) == (Status.CANCELLED, None)
    assert executions[job.id] == 0


# Outcomes that cannot be written

HISTORY = {
    "job_attempts": "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome) "
    "VALUES (?, 1, '', '', 'failed')",
    "job_events": "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, 1, 'log', '{}', '')",
    "jobs": "UPDATE jobs SET args = '{nonsense' WHERE id = ?",
}


async def _damage(service: Service, job: JobRecord, table: str) -> None:
    """Put in the way of the job's outcome what makes it unwritable."""

    def unit() -> Unit[None]:
        yield (HISTORY[table], (job.id,))

    await service.commits.run(unit)


@pytest.mark.parametrize("table", HISTORY)
async def test_an_outcome_that_cannot_be_written_counts_as_a_crash_and_does_not_run_for_ever(
    make: Make, table: str
) -> None:
    service = await make(crash_limit=2)
    job = await _held(service)
    await _damage(service, job, table)
    gate("gate").set()
    await until(lambda: _has_ended(service, job))
    ended = await service.store.reading.get(job.id, None)
    assert ended.attempt <= 2
    assert executions[job.id] <= 2
    await until(lambda: len(service.runs) == 0)
    assert (await service.run("double", number=1)).result == "2"


async def _has_ended(service: Service, job: JobRecord) -> bool:
    return (await service.store.reading.get(job.id, None)).status.is_terminal


@pytest.mark.parametrize("table", HISTORY)
async def test_one_run_that_cannot_be_written_holds_up_no_other_of_a_dead_process(make: Make, table: str) -> None:
    dying = await make(lease_seconds=60)
    bad, good = await _held(dying), await _held(dying)
    await _damage(dying, bad, table)
    await dying.die()
    other = await make(lease_seconds=60)
    await until(lambda: executions[good.id] == 2)
    gate("gate").set()
    assert (await other.wait(good)).status is Status.SUCCEEDED
    await until(lambda: _has_ended(other, bad))
    assert set(await other.store.workers.beats()) == {other.presence.id}


async def test_a_worker_whose_heartbeat_came_while_each_of_its_runs_was_ended_alone_lost_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, other = await make(lease_seconds=60), await make(engine=False)
    bad, good = await _held(service), await _held(service)
    await _damage(service, bad, "job_attempts")  # so that they cannot all be ended at once
    worker, read = service.presence.id, other.store.reading.runs

    async def runs(worker: str) -> list[Running]:
        assert await service.store.workers.beat(worker, service.now())
        return await read(worker)

    monkeypatch.setattr(other.store.reading, "runs", runs)
    seen = (await other.store.workers.beats())[worker]
    assert await other.store.crashes.bury(worker, other.now(), 60, 3, "{}", beat=seen) is None
    gate("gate").set()
    ended = await service.wait(good)
    assert (ended.attempt, ended.crashes, executions[good.id]) == (1, 0, 1)


async def test_a_stubborn_run_is_abandoned_without_a_fault_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "quart_async_api")
    job = await service.submit("stubborn")
    await until(lambda: job.id in running)
    body = next(iter(service.runs._runs.values())).task
    assert body is not None
    await service.submissions.cancel(job.id)
    assert (await service.wait(job)).status is Status.CANCELLED
    await until(body.done)
    assert [record.message for record in caplog.records] == [
        f"job {job.id} (stubborn) does not stop: its run is abandoned"
    ]


async def test_a_drain_lets_what_runs_end_and_gives_the_rest_back(make: Make) -> None:
    service = await make()
    ending = await service.submit("hold", name="soon")
    await until(lambda: ending.id in running)
    left = await _held(service)
    stubborn = await service.submit("stubborn")
    await until(lambda: stubborn.id in running)
    asyncio.get_running_loop().call_soon(gate("soon").set)
    await service.engine.drain(1)
    await service.stop_engine()
    assert (await service.store.reading.get(ending.id, None)).status is Status.SUCCEEDED
    for job in (left, stubborn):
        given_back = await service.store.reading.get(job.id, None)
        assert (given_back.status, given_back.attempt, given_back.run_token) == (Status.QUEUED, 0, None)
        assert await service.store.reading.attempts(job.id) == []
    assert await service.store.workers.beats() == {}

    gate("gate").set()
    again = await make(without=["stubborn"])
    ended = await again.wait(left)
    assert (ended.attempt, ended.crashes, ended.result) == (1, 0, "1")


async def test_a_drain_tells_of_runs_that_it_cannot_give_back(
    make: Make, backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not backend.startswith("sqlite"):
        pytest.skip("needs a file that another can lock")
    monkeypatch.setattr(runs, "FAREWELL_SECONDS", 0.25)
    service = await make()
    job = await _held(service)
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        caplog.set_level(logging.WARNING)
        await service.engine.drain(0)
        assert [message.partition(" in time")[0] for message in caplog.messages] == [
            "the database has not taken the ends of 1 runs"
        ]
    await until(lambda: not len(service.runs))
    assert (await service.store.reading.get(job.id, None)).status is Status.QUEUED


async def test_nothing_is_left_claimed_by_a_drain_in_the_middle_of_submissions(make: Make) -> None:
    service = await make()
    submitted = [asyncio.create_task(service.submit("hold")) for _ in range(50)]
    await submitted[0]
    await service.engine.drain(0)
    await service.stop_engine()
    for job in await asyncio.gather(*submitted):
        left = await service.store.reading.get(job.id, None)
        assert (left.status, left.attempt) == (Status.QUEUED, 0)
    assert await service.store.workers.beats() == {}


async def test_a_schedule_fires_once_however_many_watch_the_clock(make: Make) -> None:
    services = [await make(engine=False), await make(engine=False)]
    schedulers = [Scheduler(one.store, one.tasks, clock=services[0].clock) for one in services]
    for minutes in (0, 1, 2):
        services[0].clock.ahead = timedelta(minutes=minutes)
        await asyncio.gather(*(scheduler.fire() for scheduler in schedulers for _ in range(3)))
    jobs = await services[0].store.reading.page(100, None)
    assert len(jobs) in (3, 4)  # a minute may have turned meanwhile
    assert {job.task for job in jobs} == {"each-minute"}


async def test_a_clock_that_jumps_back_an_hour_holds_nothing_up(make: Make) -> None:
    service = await make(job_concurrency=1)
    held = await _held(service)
    queued = await service.submit("double", number=1)
    service.clock.ahead = timedelta(hours=-1)
    after = await service.submit("double", number=2)
    flaky = await service.submit("flaky", failures=1)
    gate("gate").set()
    for job in (held, queued, after, flaky):
        assert (await service.wait(job)).status is Status.SUCCEEDED
    # Nor does it take a living process for dead, or keep a dead one's jobs.
    gate("gate").clear()
    job = await _held(service)
    other = await make()
    other.clock.ahead = timedelta(hours=-2)
    await service.die()
    await until(lambda: executions[job.id] == 2)
    gate("gate").set()
    assert (await other.wait(job)).crashes == 1


async def test_a_retry_that_waits_when_the_clock_jumps_back_is_not_held_for_an_hour(make: Make) -> None:
    @task("patient", retries=1, backoff=Backoff(initial=0.5), retryable=(ValueError,))
    async def patient(ctx: TaskContext) -> None:
        """Fail once."""
        if ctx.attempt == 1:
            raise ValueError

    service = await make(extra=[patient])
    job = await service.submit("patient")
    await until(lambda: _waits_again(service, job))
    service.clock.ahead = timedelta(hours=-1)
    assert (await service.wait(job)).status is Status.SUCCEEDED


@pytest.mark.parametrize("job_engine", ["embedded"])  # a ticket waits by the clock of the database
async def test_a_retry_whose_process_stopped_is_not_held_by_a_clock_that_was_set_back_since(make: Make) -> None:
    @task("patient", retries=1, backoff=Backoff(initial=300), retryable=(ValueError,))
    async def patient(ctx: TaskContext) -> str:
        """Fail once."""
        if ctx.attempt == 1:
            raise ValueError
        return "done"

    first = await make(extra=[patient])
    job = await first.submit("patient")
    await until(lambda: _waits_again(first, job))
    await first.stop()
    second = await make(extra=[patient], engine=False)
    second.clock.ahead = timedelta(hours=-1)
    await second.start_engine()
    assert (await second.wait(job)).result == '"done"'


async def _waits_again(service: Service, job: JobRecord) -> bool:
    found = await service.store.reading.get(job.id, None)
    return found.status is Status.QUEUED and found.failures == 1


# SQLite: whoever has the file locked locks out everybody


@pytest.mark.parametrize("fault", ["locked", "full"])
async def test_an_outcome_that_cannot_be_written_is_written_later(
    make: Make, backend: str, tmp_path: Path, fault: str
) -> None:
    if not backend.startswith("sqlite"):
        pytest.skip("needs a file that another can lock")
    service = await make()
    job = await _held(service)
    file = tmp_path / "app.db"
    await service.database.client.execute_query("PRAGMA busy_timeout=50")
    blocker = sqlite3.connect(file, isolation_level=None)
    try:
        token = (await service.store.reading.get(job.id, None)).run_token or ""
        if fault == "locked":
            blocker.execute("BEGIN IMMEDIATE")
        else:
            pages = (await service.database.client.execute_query_dict("PRAGMA page_count"))[0]["page_count"]
            await service.database.client.execute_query(f"PRAGMA max_page_count={pages}")
        if fault == "locked":
            with pytest.raises(DatabaseUnavailable):
                await service.submit("double", number=1)
        else:
            for size in (9999, 99, 1):
                with suppress(DatabaseUnavailable):
                    while True:
                        await service.store.transitions.record(
                            job.id, token, job.created_at, "log", {"text": "x" * size}, 9999
                        )
        gate("gate").set()
        await until(lambda: not running)
        assert (await service.store.reading.get(job.id, None)).status is Status.RUNNING
        if fault == "locked":
            blocker.execute("ROLLBACK")
        else:
            await service.database.client.execute_query("PRAGMA max_page_count=1000000")
    finally:
        blocker.close()
    ended = await service.wait(job)
    assert (ended.status, ended.attempt, ended.crashes) == (Status.SUCCEEDED, 1, 0)
    assert (await service.run("double", number=1)).result == "2"


async def test_progress_and_log_that_cannot_be_written_fail_no_task(make: Make, backend: str, tmp_path: Path) -> None:
    if not backend.startswith("sqlite"):
        pytest.skip("needs a file that another can lock")

    @task("teller")
    async def teller(ctx: TaskContext) -> str:
        """Tell how far it is while the database is locked."""
        running.add(ctx.job_id)
        await gate("locked").wait()
        await ctx.progress(1, 2)
        await ctx.log("half way")
        gate("told").set()
        return "done"

    service = await make(extra=[teller])
    await service.database.client.execute_query("PRAGMA busy_timeout=50")
    job = await service.submit("teller")
    await until(lambda: job.id in running)
    blocker = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    gate("locked").set()
    await gate("told").wait()
    blocker.close()
    ended = await service.wait(job)
    assert (ended.status, json.loads(ended.progress or "")["current"]) == (Status.SUCCEEDED, 1)


async def test_an_engine_survives_that_its_connections_are_cut(
    make: Make, backend: str, request: pytest.FixtureRequest
) -> None:
    if backend.startswith("sqlite"):
        pytest.skip("has no connections")
    service = await make()
    job = await _held(service)
    server = request.getfixturevalue("postgresql")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with server.connect() as connection:
        connection.execute(cut, (backend.split("/")[3].split("?")[0],))
    await until(lambda: _beats(service))
    gate("gate").set()
    ended = await service.wait(job)
    assert (ended.status, ended.crashes) == (Status.SUCCEEDED, 0)
    assert (await service.run("double", number=1)).result == "2"
    probe = liveness(service.database.url)
    await probe.hold("probe")

    async def holds_its_lock() -> bool:
        return not await probe.is_dead(service.presence.id, 9.0)

    await until(holds_its_lock)
    await probe.release()


async def _beats(service: Service) -> bool:
    try:
        return await service.store.workers.beat(service.presence.id, service.now())
    except DatabaseUnavailable:
        return False
