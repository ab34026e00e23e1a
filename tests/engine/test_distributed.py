"""The distributed engine: its tickets, which are written with the jobs, and the tables of procrastinate."""

import asyncio
import hashlib
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate.schema import SchemaManager

from quart_async_api import Settings
from quart_async_api.access.caller import Caller
from quart_async_api.db.group_commit import Unit
from quart_async_api.db.url import parse
from quart_async_api.errors import DatabaseBehind, DatabaseUnusable, SettingsError
from quart_async_api.jobs import engine_schema, engines
from quart_async_api.jobs import reconciler as reconciler_module
from quart_async_api.jobs import runs as runs_module
from quart_async_api.jobs.distributed import DistributedEngine
from quart_async_api.jobs.reconciler import Reconciler
from quart_async_api.jobs.states import Status
from quart_async_api.jobs.tickets import take
from quart_async_api.moments import moment, timestamp
from quart_async_api.service import Service as WholeService
from quart_async_api.services.submissions import Options
from quart_async_api.settings import JobsEngine
from quart_async_api.tasks import TaskContext, task

from . import sample_tasks
from .conftest import PATIENCE, Make, Service, queued_in_every_way, until
from .sample_tasks import running


@pytest.fixture
def job_engine() -> str:
    return "distributed"


@pytest.fixture
def backend(distributed_postgresql: str) -> str:
    return distributed_postgresql


async def tickets(service: Service, columns: str = "queueing_lock") -> list[Any]:
    found = await service.database.rows(f"SELECT {columns} FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id")  # noqa: S608
    return [row[0] if len(row) == 1 else row for row in found]


async def test_every_way_into_the_queue_leaves_one_ticket_and_a_second_one_fails_nothing(make: Make) -> None:
    service = await make(engine=False)
    ways = 0
    async for job in queued_in_every_way(service):
        ways += 1
        assert await tickets(service) == [job.id]
    assert ways == 5
    await service.submissions.cancel(job.id)
    assert await tickets(service) == []
    again = await service.submissions.retry(job.id)
    assert await tickets(service, "args") == [{"job_id": again.id}]  # and nothing else of the job


async def test_a_ticket_of_a_delayed_job_is_due_with_it_and_one_of_a_retry_by_the_clock_of_the_database(
    make: Make,
) -> None:
    service = await make(engine=False)
    service.clock.ahead = timedelta(hours=1)
    at = service.submissions.later(3600)
    delayed = await service.submit("double", Options(run_at=at), number=1)
    assert await tickets(service, "scheduled_at") == [moment(delayed.run_at)]
    await service.submissions.cancel(delayed.id)
    now = service.now()
    await service.store.workers.register(service.presence.id, now)
    job = await service.submit("double", number=1)
    assert await tickets(service, "scheduled_at IS NULL") == [True]
    [taken] = await service.store.claims.claim(("double",), 1, service.presence.id, now, lambda: "token")
    assert taken.id == job.id
    again = timestamp(service.submissions.later(30))
    await service.store.transitions.retry(job.id, "token", now, again, '{"title": "failed"}', 60)
    [is_soon] = await tickets(service, "scheduled_at BETWEEN now() AND now() + interval '31 seconds'")
    assert is_soon


async def test_the_most_urgent_job_is_fetched_first(make: Make) -> None:
    service = await make(engine=False, job_concurrency=1)
    for priority in (0, 5, -5):
        await service.submit("double", Options(priority=priority), number=priority)
    await service.start_engine()
    await until(lambda: len(sample_tasks.order) == 3)
    assert sample_tasks.order == ["5", "0", "-5"]


async def test_owners_take_turns_though_tickets_are_fetched_in_their_order(make: Make) -> None:
    service = await make(engine=False, job_concurrency=1)
    task = service.submissions.task("double")
    for number, owner in enumerate(["a"] * 8 + ["b"] * 2):
        arguments = service.submissions.arguments(task, {"number": number})
        await service.submissions.submit(task, arguments, caller=Caller(owner))
    await service.start_engine()
    await until(lambda: len(sample_tasks.order) == 10)
    assert {"8", "9"} <= set(sample_tasks.order[:4])
    await until(lambda: _is_idle(service))


async def test_a_job_that_lost_its_place_and_got_it_back_has_one_ticket(make: Make) -> None:
    @task("one-at-a-time", concurrency=1)
    async def one_at_a_time(ctx: TaskContext) -> None:
        """Run alone."""

    service = await make(engine=False, extra=[one_at_a_time])
    first = await service.submit("one-at-a-time")
    urgent = await service.submit("one-at-a-time", Options(priority=1))  # takes the place of the first
    assert await tickets(service) == [first.id, urgent.id]
    await service.submissions.cancel(urgent.id)
    assert await tickets(service) == [first.id]
    await service.start_engine()
    assert (await service.wait(first)).status is Status.SUCCEEDED
    await until(lambda: _is_idle(service))


async def test_a_ticket_that_another_process_takes_right_now_is_not_waited_for(
    make: Make, distributed_postgresql: str
) -> None:
    service = await make(engine=False, job_concurrency=1)
    first, second = await service.submit("double", number=1), await service.submit("double", number=2)
    with psycopg.connect(parse(distributed_postgresql).conninfo(5)) as other:
        other.execute("SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = %s FOR UPDATE", (first.id,))
        await service.start_engine()  # the ticket of the second lets it claim the first, whose ticket is to go then
        assert [(await service.wait(job)).attempt for job in (first, second)] == [1, 1]
        assert await tickets(service) == [first.id]
    await until(lambda: _is_idle(service))


async def test_the_ticket_of_a_job_that_is_cancelled_or_paused_is_not_waited_for_either(
    make: Make, distributed_postgresql: str
) -> None:
    service = await make(engine=False)
    cancelled, paused = [await service.submit("double", number=number) for number in range(2)]
    await service.task_operations.pause("double")
    with psycopg.connect(parse(distributed_postgresql).conninfo(5)) as other:
        other.execute("SELECT 1 FROM procrastinate_jobs FOR UPDATE")
        async with asyncio.timeout(PATIENCE):
            assert (await service.submissions.cancel(cancelled.id))[1].status is Status.CANCELLED
            await service.store.pauses.look()
    assert (await service.store.reading.get(paused.id, None)).stage == "paused"
    await service.task_operations.resume("double")
    service.background.spawn(service.pausing.run(), name="paused tasks")
    await service.start_engine()
    assert (await service.wait(paused)).status is Status.SUCCEEDED
    assert sample_tasks.executions == {paused.id: 1}
    assert await tickets(service) == []  # that of the cancelled job is taken, and begins nothing


async def test_tickets_are_taken_by_a_new_plan_each_time(make: Make) -> None:
    """One from the time when the table was empty reads all of it: 0.3 s for a take with 20,000 tickets."""

    def unit() -> Unit[int]:
        for _ in range(10):  # psycopg prepares a statement that comes more often than five times
            assert (yield from take(("double",), 1)) == []
        prepared = yield "SELECT COUNT(*) AS n FROM pg_prepared_statements WHERE statement LIKE ?", ("%SKIP LOCKED%",)
        return int(prepared.rows[0]["n"])

    assert await (await make(engine=False)).commits.run(unit) == 0


async def _is_idle(service: Service) -> bool:
    return await service.database.rows("SELECT 1 FROM procrastinate_jobs") == []


async def test_a_cancellation_is_sent_to_the_worker_of_another_host(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "CHECK_SECONDS", 3600.0)  # by which it would see it too
    one, other = await make(engine=False), await make()
    job = await one.submit("hold")
    await until(lambda: job.id in running)
    await one.submissions.cancel(job.id)
    assert (await one.wait(job)).status is Status.CANCELLED
    await until(lambda: _is_idle(other))


async def test_a_job_ran_on_one_of_two_engines_alone(make: Make) -> None:
    one, other = await make(), await make()
    jobs = [await one.submit("double", number=number) for number in range(30)]
    for job in jobs:
        await other.wait(job)
    assert set(sample_tasks.executions.values()) == {1}


async def test_a_process_that_is_stopped_gives_its_jobs_and_their_tickets_back(make: Make) -> None:
    service = await make()
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    await service.engine.drain(0.1)
    given_back = await service.store.reading.get(job.id, None)
    assert (given_back.status, given_back.attempt) == (Status.QUEUED, 0)
    assert await tickets(service) == [job.id]
    assert await service.database.rows("SELECT 1 FROM procrastinate_jobs WHERE status = 'doing'") == []


# Tickets that do not agree with the jobs


async def test_jobs_of_the_embedded_engine_run_after_a_switch_to_this_one(make: Make) -> None:
    before = await make(engine=False, jobs_engine="embedded")
    now = await before.submit("double", number=1)
    later = await before.submit("double", Options(run_at=before.submissions.later(0.2)), number=2)
    await before.stop()
    service = await make()
    assert [(await service.wait(job)).attempt for job in (now, later)] == [1, 1]


async def reconciler(service: Service) -> Reconciler:
    """That of a process that does not run jobs, and does not do it by itself."""
    engine = service.engine
    assert isinstance(engine, DistributedEngine)
    return engine._reconciler


async def test_a_job_whose_fetch_was_not_heard_of_gets_another_ticket_the_second_time(make: Make) -> None:
    service = await make(engine=False)
    tickets_of = await reconciler(service)
    job = await service.submit("double", number=1)
    await _run_sql(
        service,
        "WITH fetched AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id) "
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = fetched.id FROM fetched",
    )
    await tickets_of.reconcile()
    assert await tickets(service) == []
    assert tickets_of._interval() == reconciler_module.HURRY_SECONDS, "each process looks rarely, where there are many"
    await tickets_of.reconcile()
    assert await tickets(service) == [job.id]
    assert tickets_of._interval() == reconciler_module.EVERY_SECONDS


async def test_tickets_without_a_queued_job_go_and_jobs_that_wait_for_their_slot_get_none(make: Make) -> None:
    @task("one-at-a-time", concurrency=1)
    async def one_at_a_time(ctx: TaskContext) -> None:
        """Run alone."""

    service = await make(engine=False, extra=[one_at_a_time])
    tickets_of = await reconciler(service)
    first, _ = await service.submit("one-at-a-time"), await service.submit("one-at-a-time")
    cancelled = await service.submit("double", Options(run_at=service.submissions.later(3600)), number=1)
    await _run_sql(service, "UPDATE jobs SET status = 'cancelled', stage = NULL WHERE id = ?", cancelled.id)
    await _run_sql(
        service,
        "WITH silent AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 day') RETURNING id) "
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) SELECT 'a', 'b', 'doing', id FROM silent",
    )
    await tickets_of.reconcile()
    assert await service.database.rows("SELECT queueing_lock FROM procrastinate_jobs") == [(first.id,)]


async def test_an_orphan_that_a_retry_had_just_taken_over_was_removed(make: Make, distributed_postgresql: str) -> None:
    service = await make(engine=False)
    tickets_of = await reconciler(service)
    job = await service.submit("double", number=1)
    await _run_sql(service, "UPDATE jobs SET status = 'running', stage = 'running' WHERE id = ?", job.id)
    with psycopg.connect(parse(distributed_postgresql).conninfo(5)) as retries:
        retries.execute("UPDATE jobs SET status = 'queued', stage = 'ready' WHERE id = %s", (job.id,))
        retries.execute("UPDATE procrastinate_jobs SET priority = 1 WHERE queueing_lock = %s", (job.id,))
        async with asyncio.timeout(PATIENCE):
            await tickets_of.reconcile()
    assert await tickets(service, "queueing_lock, priority") == [(job.id, 1)]


async def test_each_loop_has_a_name_of_its_own_else_health_shows_one_of_two(make: Make) -> None:
    service = await make(engine=False)
    names = [loop.name for loop in service.loops]
    assert sorted(names) == sorted(set(names))


async def test_one_process_at_a_time_reconciles(make: Make, distributed_postgresql: str) -> None:
    service = await make(engine=False)
    tickets_of = await reconciler(service)
    job = await service.submit("double", number=1)
    await _run_sql(service, "DELETE FROM procrastinate_jobs")
    with psycopg.connect(parse(distributed_postgresql).conninfo(5)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (reconciler_module._LOCK,))
        await tickets_of.reconcile()
        assert await tickets(service) == []
    await tickets_of.reconcile()
    assert await tickets(service) == [job.id]


async def _run_sql(service: Service, sql: str, *values: str) -> None:
    def unit() -> Unit[None]:
        yield sql, values

    await service.commits.run(unit)


# The tables


async def test_the_tables_are_made_once_with_the_settings_that_the_engine_needs(migrated_postgresql: str) -> None:
    settings = Settings(database_url=migrated_postgresql, jobs_engine=JobsEngine.DISTRIBUTED)
    service = WholeService(settings, {})
    with pytest.raises(DatabaseBehind, match="QAA_JOBS_ENGINE=distributed quart-async-api migrate"):
        async with service.connected():
            pass
    async with WholeService(settings.model_copy(update={"jobs_engine": JobsEngine.EMBEDDED}), {}).connected():
        pass
    first, second = await asyncio.gather(engines.upgrade(settings), engines.upgrade(settings))
    assert sorted([len(first), len(second)]) == [0, 1]
    async with service.connected():
        state = await engine_schema.state(service.database)
        assert (state.pending, state.unknown, state.is_planned, state.triggers) == ((), (), True, ())


async def test_a_step_that_the_database_lacks_is_applied_and_one_that_is_newer_refused(
    distributed_postgresql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, steps = parse(distributed_postgresql), engine_schema._steps()
    new = tmp_path / "99.00.00_01_more.sql"
    new.write_text(
        "ALTER FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) RESET ALL; CREATE TABLE more (id int);"
    )
    monkeypatch.setattr(engine_schema, "_steps", lambda: steps | {new.name: new})
    assert await engine_schema.upgrade(url) == [f"procrastinate {new.name}"]
    with psycopg.connect(url.conninfo(5)) as connection:
        assert connection.execute(engine_schema._PLANNED.encode()).fetchall()
        connection.execute("SELECT id FROM more")
    monkeypatch.setattr(engine_schema, "_steps", lambda: steps)
    with pytest.raises(DatabaseBehind, match=r"newer .* 99\.00\.00_01_more\.sql"):
        await engine_schema.upgrade(url)


async def test_tables_of_procrastinate_that_others_have_made_are_left_alone(migrated_postgresql: str) -> None:
    url = parse(migrated_postgresql)
    with psycopg.connect(url.conninfo(5)) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    with pytest.raises(DatabaseUnusable, match="use another database"):
        await engine_schema.upgrade(url)


def test_the_tables_are_those_that_the_statements_were_written_for() -> None:
    digest = hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest()[:16]
    assert digest == "c70ec4b400a60ad9", (
        f"procrastinate {procrastinate.__version__} has other tables: compare jobs/tickets.py"
    )


# The setting


async def test_the_distributed_engine_needs_postgresql(database_file: Path) -> None:
    settings = Settings(database_url=f"sqlite://{database_file}", jobs_engine=JobsEngine.DISTRIBUTED)
    for refused in (lambda: WholeService(settings, {}), lambda: asyncio.run(engines.upgrade(settings))):
        with pytest.raises(SettingsError, match="needs PostgreSQL"):
            await asyncio.to_thread(refused)


def test_the_distributed_engine_needs_its_extra(distributed_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    settings = Settings(database_url=distributed_postgresql, jobs_engine=JobsEngine.DISTRIBUTED)
    with pytest.raises(SettingsError, match=r"pip install 'quart-async-api\[distributed\]'"):
        WholeService(settings, {})
