"""How a job ends, whatever its task does."""

import asyncio
import json
import logging
from datetime import timedelta

import pytest

from quart_async_api.errors import JobEnded, JobExpired, JobNotFound, QueueFull
from quart_async_api.jobs.janitor import Janitor
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, task

from . import sample_tasks
from .conftest import PATIENCE, Make, Service, until
from .sample_tasks import executions, gate, running


@pytest.fixture(params=["embedded", "tickets", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    """All of this holds for any engine behind the port."""
    return str(request.param)


def problem(job: JobRecord) -> str:
    assert job.error is not None, job
    return str(json.loads(job.error)["type"]).removeprefix("/problems/")


async def test_a_job_succeeds_with_its_result(service: Service) -> None:
    job = await service.submit("double", number=21)
    assert (job.status, job.attempt) == (Status.QUEUED, 0)
    ended = await service.wait(job)
    assert (ended.status, ended.result, ended.attempt, ended.error) == (Status.SUCCEEDED, "42", 1, None)
    times = [ended.created_at, ended.started_at or "", ended.finished_at or "", ended.expires_at or ""]
    assert times == sorted(times)
    assert all(times)
    assert (ended.run_token, ended.worker) == (None, None)
    assert await service.events(ended) == ["succeeded"]
    assert [attempt["outcome"] for attempt in await service.store.reading.attempts(job.id)] == ["succeeded"]


async def test_the_last_progress_is_stored_however_fast_it_came(service: Service) -> None:
    job = await service.run("talk", steps=200)
    assert json.loads(job.progress or "") == {"current": 200, "total": 200, "percent": 100.0, "message": "step 200"}
    events = await service.events(job)
    assert events[0] == "progress"
    assert events[-2:] == ["log", "succeeded"]
    assert len(events) < 20


async def test_a_job_with_more_events_than_a_watcher_can_hold_is_still_waited_for(make: Make) -> None:
    @task("chatty")
    async def chatty(ctx: TaskContext) -> None:
        """Log a lot."""
        await asyncio.gather(*(ctx.log(str(number)) for number in range(700)))
        await gate("gate").wait()

    service = await make(extra=[chatty])
    job = await service.submit("chatty")
    waiting = asyncio.create_task(service.wait(job))
    await until(lambda: _logged(service, job))
    gate("gate").set()
    async with asyncio.timeout(PATIENCE / 2):
        assert (await waiting).status is Status.SUCCEEDED


async def _logged(service: Service, job: JobRecord) -> bool:
    return len(await service.store.history.events(job.id, 0)) >= 700


async def test_events_and_log_bytes_of_a_job_are_bounded(make: Make) -> None:
    @task("chatty")
    async def chatty(ctx: TaskContext) -> None:
        """Log a lot."""
        for _ in range(50):
            await ctx.log("x" * 100)

    by_count = await make(extra=[chatty], job_max_events=10)
    assert len(await by_count.events(await by_count.run("chatty"))) == 11
    await by_count.stop()
    by_size = await make(extra=[chatty], job_log_max_bytes=250)
    events = await by_size.store.history.events((await by_size.run("chatty")).id, 0)
    assert [len(event.data["text"]) for event in events[:2]] == [100, 100]
    assert "QAA_JOB_LOG_MAX_BYTES" in events[2].data["text"]
    assert len(events) == 4


async def test_a_retryable_error_is_retried_until_it_works(service: Service) -> None:
    job = await service.run("flaky", failures=2)
    assert (job.status, job.result, job.attempt, job.failures) == (Status.SUCCEEDED, "3", 3, 2)
    assert [name for name in await service.events(job) if name != "progress"] == ["retry", "retry", "succeeded"]
    attempts = await service.store.reading.attempts(job.id)
    assert [(attempt["number"], attempt["outcome"]) for attempt in attempts] == [
        (1, "failed"),
        (2, "failed"),
        (3, "succeeded"),
    ]
    assert attempts[0]["error"]["type"] == "/problems/task-failed"


async def test_a_retryable_error_is_retried_as_often_as_the_task_says(service: Service) -> None:
    job = await service.run("flaky", failures=9)
    assert (job.status, job.attempt, job.failures) == (Status.FAILED, 3, 3)
    assert executions[job.id] == 3


async def test_a_retryable_error_is_retried_as_often_as_the_caller_says(service: Service) -> None:
    assert (await service.run("flaky", Options(max_attempts=1), failures=9)).attempt == 1
    assert (await service.run("flaky", Options(max_attempts=5), failures=4)).status is Status.SUCCEEDED


async def test_another_error_is_not_retried(service: Service) -> None:
    job = await service.run("flaky", failures=1, error="ValueError")
    assert (job.status, job.attempt, executions[job.id]) == (Status.FAILED, 1, 1)


async def test_a_timeout_is_not_retried(service: Service) -> None:
    job = await service.run("slow")
    assert (job.status, problem(job), executions[job.id]) == (Status.FAILED, "task-timeout", 1)


async def test_a_timeout_is_retried_where_it_is_listed(service: Service) -> None:
    job = await service.run("slow-again")
    assert (job.status, job.result) == (Status.SUCCEEDED, "2")


async def test_the_callers_timeout_counts(service: Service) -> None:
    job = await service.run("hold", Options(timeout=0.05))
    assert problem(job) == "task-timeout"


async def test_a_task_that_takes_no_notice_of_its_timeout_fails_all_the_same(service: Service) -> None:
    job = await service.run("endless-timeout")
    assert (job.status, problem(job)) == (Status.FAILED, "task-timeout")
    assert (await service.run("double", number=1)).result == "2"


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("raise", "task-failed"),
        ("exit", "task-failed"),
        ("interrupt", "task-failed"),
        ("cancel itself", "task-failed"),
        ("no JSON", "result-unusable"),
        ("NaN", "result-unusable"),
        ("too big", "result-unusable"),
        ("half a pair", "result-unusable"),
    ],
)
async def test_a_task_that_misbehaves_fails_alone(service: Service, how: str, type_: str) -> None:
    job = await service.run("misbehave", how=how)
    assert (job.status, problem(job)) == (Status.FAILED, type_)
    assert "secret" not in (job.error or "")
    assert (await service.run("double", number=1)).result == "2"
    await until(lambda: len(service.runs) == 0)


async def test_progress_that_cannot_be_encoded_holds_nothing_up(service: Service) -> None:
    assert (await service.run("half-said")).status is Status.SUCCEEDED


async def test_a_queued_job_is_cancelled_at_once(make: Make) -> None:
    service = await make(engine=False)
    job = await service.submit("hold")
    answer, cancelled = await service.submissions.cancel(job.id)
    assert (answer, cancelled.status) == ("cancelled", Status.CANCELLED)
    assert await service.events(job) == ["cancelled"]
    with pytest.raises(JobEnded):
        await service.submissions.cancel(job.id)
    await service.start_engine()
    await service.run("double", number=1)
    assert executions[job.id] == 0


async def test_a_running_job_is_cancelled(service: Service) -> None:
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    answer, asked = await service.submissions.cancel(job.id)
    assert (answer, asked.status, bool(asked.cancel_requested_at)) == ("requested", Status.RUNNING, True)
    ended = await service.wait(job)
    assert (ended.status, ended.result, ended.error) == (Status.CANCELLED, None, None)
    assert not running


async def test_a_job_that_swallows_its_cancellation_is_abandoned(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "quart_async_api.jobs.runs")
    job = await service.submit("stubborn")
    await until(lambda: job.id in running)
    began = asyncio.get_running_loop().time()
    await service.submissions.cancel(job.id)
    assert (await service.wait(job)).status is Status.CANCELLED
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert [job.id in line.getMessage() for line in caplog.records if "is abandoned" in line.getMessage()] == [True]
    assert (await service.run("double", number=1)).result == "2"


async def test_a_cancelled_job_is_not_retried(make: Make) -> None:
    service, other = await make(), await make(engine=False)
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    row = await service.store.reading.get(job.id, None)
    # The request is in the store, and the attempt fails before its engine has heard of it.
    cancelled, ended = await asyncio.gather(
        other.store.transitions.cancel(job.id, row.created_at, 60),
        other.store.transitions.retry(job.id, row.run_token or "", row.created_at, row.created_at, "{}", 60),
    )
    assert cancelled[0] == "requested"
    assert ended is not None
    assert ended.status is Status.CANCELLED


async def test_a_cancellation_reaches_another_engine(make: Make) -> None:
    one, other = await make(), await make(engine=False)
    job = await one.submit("hold")
    await until(lambda: job.id in running)
    await other.submissions.cancel(job.id)
    assert (await other.wait(job)).status is Status.CANCELLED


async def test_arguments_that_no_longer_fit_fail_with_a_problem_that_says_so(make: Make) -> None:
    @task("double")
    async def new_double(ctx: TaskContext, *, value: int) -> int:
        """The task after a deploy."""
        return 2 * value

    before = await make(engine=False)
    job = await before.submit("double", number=1)
    after = await make(without=["double"], extra=[new_double])
    ended = await after.wait(job)
    assert problem(ended) == "arguments-outdated"
    assert (await after.run("double", value=4)).result == "8"


async def test_a_job_whose_task_was_removed_stays_queued(make: Make) -> None:
    before = await make(engine=False)
    job = await before.submit("double", number=1)
    after = await make(without=["double"])
    await after.run("flaky", failures=0)
    assert (await after.store.reading.get(job.id, None)).status is Status.QUEUED
    await make()
    assert (await after.wait(job)).result == "2"


async def test_a_failed_job_is_retried_as_a_new_one(service: Service) -> None:
    job = await service.run("misbehave", Options(priority=3), how="raise")
    again = await service.submissions.retry(job.id)
    assert (again.retry_of, again.urgency, again.args) == (job.id, -3, job.args)
    assert again.document()["links"]["retry_of"] == f"/jobs/{job.id}"
    await service.wait(again)
    with pytest.raises(JobEnded):
        await service.submissions.retry((await service.run("double", number=1)).id)


async def test_the_most_urgent_runs_first_then_the_oldest(make: Make) -> None:
    service = await make(job_concurrency=1)
    held = await service.submit("hold")
    await until(lambda: held.id in running)
    jobs = [
        await service.submit("double", Options(priority=priority), number=n)
        for n, priority in enumerate((0, -5, 9, 0, 9))
    ]
    gate("gate").set()
    for job in jobs:
        await service.wait(job)
    assert sample_tasks.order == ["2", "4", "0", "3", "1"]


async def test_a_delayed_job_runs_when_it_is_due(make: Make) -> None:
    service = await make(job_concurrency=1)
    job = await service.submit("double", Options(run_at=service.submissions.later(0.2)), number=1)
    assert job.run_at > job.created_at
    other = await service.run("double", number=2)
    ended = await service.wait(job)
    assert (ended.finished_at or "") >= job.run_at
    is_late = (other.started_at or "") >= job.run_at  # on a busy machine
    assert sample_tasks.order == ["2", "1"] or is_late


async def test_a_full_queue_takes_nothing(make: Make) -> None:
    service = await make(engine=False, job_queue_limit=3)
    delayed = Options(run_at=service.submissions.later(3600))
    for options in (delayed, Options(), Options()):
        await service.submit("double", options, number=1)
    for _ in range(2):
        with pytest.raises(QueueFull):
            await service.submit("double", number=1)
    assert len(await service.store.reading.page(100, None)) == 3


async def test_so_many_run_at_once_and_no_more(make: Make) -> None:
    service = await make(job_concurrency=4)
    jobs = [await service.submit("hold") for _ in range(12)]
    await until(lambda: len(running) == 4)
    gate("gate").set()
    for job in jobs:
        assert (await service.wait(job)).status is Status.SUCCEEDED
    assert sample_tasks.most_running == 4


async def test_a_thread_does_not_hold_up_the_loop(service: Service) -> None:
    blocking = [await service.submit("threaded", seconds=PATIENCE) for _ in range(3)]
    assert (await service.run("double", number=1)).result == "2"
    assert not sample_tasks.threads
    sample_tasks.thread_gate("threaded").set()
    for job in blocking:
        ended = await service.wait(job)
        assert ended.result == '"slept"'
        assert await service.events(job) == ["progress", "log", "succeeded"]


async def test_a_job_in_a_thread_is_cancelled_and_its_thread_told(service: Service) -> None:
    job = await service.submit("threaded", seconds=10)
    await until(lambda: _runs(service, job))
    await service.submissions.cancel(job.id)
    assert (await service.wait(job)).status is Status.CANCELLED
    await until(lambda: job.id in sample_tasks.threads)


async def _runs(service: Service, job: JobRecord) -> bool:
    return "log" in await service.events(job)


async def test_a_thread_that_raises_stop_iteration_fails(service: Service) -> None:
    assert problem(await service.run("threaded", seconds=0, how="stop")) == "task-failed"


async def test_an_expired_job_leaves_a_tombstone(service: Service) -> None:
    job = await service.run("talk", steps=1)
    kept = await service.submit("hold")
    service.clock.ahead = timedelta(days=8)
    janitor = Janitor(service.store, service.settings, clock=service.clock)
    assert await janitor.clean() == 1
    with pytest.raises(JobExpired) as expired:
        await service.store.reading.get(job.id, None)
    assert (expired.value.task, expired.value.finished_at) == ("talk", job.finished_at)
    assert await service.store.history.events(job.id, 0) == []
    assert await service.store.reading.attempts(job.id) == []
    assert (await service.store.reading.get(kept.id, None)).id == kept.id
    service.clock.ahead = timedelta(days=40)
    assert await janitor.clean() == 0
    with pytest.raises(JobNotFound):
        await service.store.reading.get(job.id, None)
