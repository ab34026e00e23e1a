"""What an operator reads in the log of runs: one line for each fact, at its level, with the job's id."""

import logging

import pytest

from quart_async_api.db.group_commit import one
from quart_async_api.jobs.run_log import TRACEBACK_CHARACTERS, AttemptEnd, shown_traceback
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options

from . import sample_tasks
from .conftest import Make, Service, until
from .sample_tasks import running


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Not here."""
    caplog.set_level(logging.INFO, "quart_async_api")


def lines(caplog: pytest.LogCaptureFixture, job: JobRecord) -> list[logging.LogRecord]:
    return [record for record in caplog.records if job.id in record.getMessage()]


def lines_of_attempts(caplog: pytest.LogCaptureFixture, job: JobRecord) -> list[tuple[str, int]]:
    return [(line.levelname, vars(line)["attempt"]) for line in lines(caplog, job)]


async def test_a_timeout_was_in_no_line(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.run("slow")
    [line] = lines(caplog, job)
    assert line.levelname == "ERROR"
    assert "failed for good in attempt 1" in line.getMessage()
    assert "longer than 0.05 s" in line.getMessage()
    assert (vars(line)["job_id"], vars(line)["task"], vars(line)["attempt"]) == (job.id, "slow", 1)
    assert line.exc_info is None


async def test_a_failure_was_in_two_lines(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.run("misbehave", how="raise")
    [line] = lines(caplog, job)
    assert line.levelname == "ERROR"
    assert "the task raised ValueError" in line.getMessage()
    assert "a secret" not in line.getMessage()
    assert line.exc_info is not None
    assert "a secret" in str(line.exc_info[1])
    assert not [other for other in caplog.records if other.levelno >= logging.WARNING and other is not line]


@pytest.mark.parametrize("how", ["exit", "cancel itself", "no JSON", "too big"])
async def test_every_failure_for_good_is_one_line(service: Service, caplog: pytest.LogCaptureFixture, how: str) -> None:
    job = await service.run("misbehave", how=how)
    assert lines_of_attempts(caplog, job) == [("ERROR", 1)]


async def test_an_attempt_that_another_follows_is_a_warning(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.run("flaky", failures=9)
    assert lines_of_attempts(caplog, job) == [("WARNING", 1), ("WARNING", 2), ("ERROR", 3)]
    assert "runs again at 20" in lines(caplog, job)[0].getMessage()


async def test_no_line_told_that_a_job_had_ended(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.run("flaky", failures=0)
    await until(lambda: bool(lines(caplog, job)))
    [line] = lines(caplog, job)
    assert (line.levelname, "succeeded in attempt 1 after" in line.getMessage()) == ("INFO", True)
    data = vars(line)
    assert (data["job_id"], data["task"], data["attempt"], data["outcome"]) == (job.id, "flaky", 1, "succeeded")
    assert data["worker"] == service.presence.id
    assert 0 <= data["queued_ms"] < 60_000
    assert 0 <= data["run_ms"] < 60_000


async def test_the_traceback_of_a_failed_attempt_was_in_the_log_alone(service: Service) -> None:
    job = await service.run("misbehave", how="raise")
    [attempt] = await service.store.reading.attempts(job.id, tracebacks=True)
    assert attempt["traceback"].startswith("Traceback")
    assert "ValueError" in attempt["traceback"]
    assert "traceback" not in (await service.store.reading.attempts(job.id))[0]
    slow = await service.run("slow")  # a timeout is no fault of the code
    assert "traceback" not in (await service.store.reading.attempts(slow.id, tracebacks=True))[0]


def test_a_traceback_has_a_bound_and_is_text_that_every_database_takes() -> None:
    shown = shown_traceback(ValueError("\0\ud800" + "é" * 100_000 + "the end"))
    assert shown is not None
    assert len(shown.encode()) < 3 * TRACEBACK_CHARACTERS
    assert shown.endswith("the end\n")
    text = shown_traceback(ValueError("\0\ud800"))
    assert text is not None
    assert "\\x00\\ud800" in text


async def test_a_run_that_is_abandoned_says_so_and_why(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.run("endless-timeout")
    abandoned, failed = lines(caplog, job)
    assert "abandoned" in abandoned.getMessage()
    assert "failed for good" in failed.getMessage()
    assert {abandoned.levelname, failed.levelname} == {"ERROR"}


async def test_a_thread_that_outlives_its_timeout_was_in_no_line(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    polite = await service.run("deaf", name="polite", listens=True)
    deaf = await service.run("deaf", name="deaf")
    assert (polite.status, deaf.status) == (Status.FAILED, Status.FAILED)
    await until(lambda: len(lines(caplog, deaf)) == 2)
    failed, abandoned = lines(caplog, deaf)
    assert "longer than" in failed.getMessage()
    assert (abandoned.levelname, "thread is abandoned" in abandoned.getMessage()) == ("ERROR", True)
    assert vars(abandoned)["job_id"] == deaf.id
    # A timeout tells the function to stop: this one did, so that nothing of it is left.
    assert sample_tasks.threads == [polite.id]
    assert len(lines(caplog, polite)) == 1


async def test_a_cancelled_job_is_no_failure(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    await service.submissions.cancel(job.id)
    await service.wait(job)
    await until(lambda: bool(lines(caplog, job)))
    [line] = lines(caplog, job)
    assert (line.levelname, vars(line)["outcome"]) == ("INFO", "cancelled")


async def test_a_job_that_crashed_too_often_was_in_no_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = await make(crash_limit=1)
    job = await first.submit("hold", Options())
    await until(lambda: job.id in running)
    await first.die()
    second = await make(crash_limit=1)
    assert (await second.wait(job)).status is Status.FAILED
    await until(lambda: bool(lines(caplog, job)))
    [line] = lines(caplog, job)
    assert (line.levelname, "crashed 1 times" in line.getMessage()) == ("ERROR", True)
    assert (vars(line)["outcome"], vars(line)["worker"]) == ("crashed", first.presence.id)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [("cancel_requested_at = '2026-01-01T00:00:00.000000Z'", ["cancelled"]), ("run_token = 'of another worker'", [])],
)
@pytest.mark.usefixtures("rare_rounds")  # else the check of runs gives back what this worker does not run
async def test_a_run_that_a_shutdown_stops_was_logged_as_returned_however_its_job_went_on(
    service: Service, caplog: pytest.LogCaptureFixture, change: str, outcome: list[str]
) -> None:
    ends: list[AttemptEnd] = []
    service.store.log.listeners.append(ends.append)
    await until(lambda: service.runs.loop.succeeded_at is not None)
    job = await service.submit("hold")
    await until(lambda: job.id in running)
    await service.commits.run(lambda: one((f"UPDATE jobs SET {change} WHERE id = ?", (job.id,))))  # noqa: S608
    await service.runs.drain(0)
    status = Status.CANCELLED if outcome else Status.RUNNING
    assert (await service.store.reading.get(job.id, None)).status is status
    assert [(end.outcome, end.ended_as) for end in ends] == [(each, status) for each in outcome]
    assert [vars(line)["outcome"] for line in lines(caplog, job)] == outcome
