"""Both clients against a real server: every method, and what goes wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from quart_async_api.client import (
    Client,
    ClientError,
    Conflict,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    Status,
    StillUnfinished,
    UnexpectedAnswer,
    Unreachable,
)
from tests.client.conftest import Connect
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process


def test_a_result_comes_back_as_the_task_returned_it(client: Client) -> None:
    value = {"list": [1, 2.5, None], "text": "ünï\u2028code"}
    job = client.submit("echo", {"value": value})
    assert (job.task, job.args["value"], job.created_at.tzinfo) == ("echo", value, UTC)
    assert client.result(job) == value
    assert client.result(job.id, timeout=0) == value


def test_a_job_is_typed(client: Client) -> None:
    job = client.wait(client.submit("echo", {"value": 1}, priority=7, timeout=5, max_attempts=3))
    assert job == client.get(job.id)
    assert (job.status, job.result, job.priority, job.attempt, job.max_attempts) == (Status.SUCCEEDED, 1, 7, 1, 3)
    assert job.status.is_terminal
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.expires_at is not None
    assert job.created_at <= job.started_at <= job.finished_at < job.expires_at
    assert [(attempt.number, attempt.outcome, attempt.error) for attempt in job.attempts] == [(1, "succeeded", None)]


def test_a_job_calls_back_where_it_may(client: Client, server: ServerProcess) -> None:
    job = client.wait(client.submit("echo", {"value": 1}, callback_url="https://nowhere.invalid/"))
    [callback] = httpx.get(f"{server.url}/jobs/{job.id}/callbacks").json()["items"]
    assert (callback["url"], callback["type"]) == ("https://nowhere.invalid/", "job.succeeded")
    silent = client.submit(
        "echo", {"value": 1}, callback_url="https://nowhere.invalid/", callback_events=("job.failed",)
    )
    assert httpx.get(f"{server.url}/jobs/{client.wait(silent).id}/callbacks").json()["items"] == []
    with pytest.raises(InvalidRequest, match="public internet"):
        client.submit("echo", {"value": 1}, callback_url="https://127.0.0.1/")


def test_a_failed_job_raises_its_problem(client: Client) -> None:
    job = client.submit("breaks")
    with pytest.raises(JobFailed, match="Task failed") as caught:
        client.result(job)
    assert (caught.value.problem.type, caught.value.problem.status) == ("/problems/task-failed", 500)
    assert caught.value.job.error == caught.value.problem
    assert client.wait(job).attempts[0].error is not None


def test_a_job_fails_with_a_problem_of_the_app(client: Client) -> None:
    with pytest.raises(JobFailed, match="Out of stock: none left") as failed:
        client.result(client.submit("sell"))
    told = failed.value.problem
    assert (told.type, told.title, told.status) == ("/problems/out-of-stock", "Out of stock", 409)


def test_a_failed_job_runs_again_as_a_new_one(client: Client) -> None:
    failed = client.wait(client.submit("breaks"))
    again = client.retry(failed)
    assert again.retry_of == failed.id
    assert client.wait(again).status is Status.FAILED


def test_a_running_job_is_cancelled(client: Client, tmp_path: Path) -> None:
    job = client.submit("gated", {"gate": str(tmp_path / "gate")})
    with pytest.raises(StillUnfinished) as caught:
        client.wait(job, timeout=0)
    assert caught.value.job.id == job.id
    next(
        event for event in client.watch(job) if event.name in ("log", "progress") or (event.job and event.job.progress)
    )
    assert client.cancel(job).cancel_requested_at is not None
    with pytest.raises(JobCancelled):
        client.result(job)
    assert client.cancel(job).status is Status.CANCELLED  # asked twice is as once


def test_a_delayed_job_is_cancelled_before_it_ran(client: Client) -> None:
    later = client.submit("echo", delay=timedelta(hours=1))
    at = client.submit("echo", run_at=datetime.now(UTC) + timedelta(hours=1))
    assert abs(later.run_at - later.created_at - timedelta(hours=1)) < timedelta(seconds=60)
    for job in (later, at):
        assert client.cancel(job).status is Status.CANCELLED
        assert client.get(job).started_at is None


def test_what_has_ended_cannot_be_cancelled(client: Client) -> None:
    job = client.wait(client.submit("echo"))
    with pytest.raises(Conflict, match="succeeded already"):
        client.cancel(job)
    with pytest.raises(Conflict):
        client.retry(job)


def test_a_watch_tells_everything_once_and_ends(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = client.submit("gated", {"gate": str(gate)}, delay=0.3)
    events = []
    for event in client.watch(job):
        events.append(event)
        if event.name == "log":
            gate.touch()
    assert [event.name for event in events] == ["snapshot", "progress", "log", "succeeded"]
    snapshot, progress, log, end = events
    assert snapshot.job is not None
    assert snapshot.job.status is Status.QUEUED
    assert progress.progress is not None
    assert (progress.progress.percent, progress.progress.message) == (25, "at the gate")
    assert (log.text, log.attempt) == ("attempt 1\u2028waits", 1)
    assert end.job is not None
    assert end.job.result == 1
    assert [event.name for event in client.watch(job)] == ["snapshot", "succeeded"]


def test_a_long_result_is_left_out_of_events_but_not_of_the_result(client: Client) -> None:
    job = client.submit("long")
    end = list(client.watch(job))[-1].job
    assert end is not None
    assert (end.result, end.result_omitted) == (None, True)
    assert len(client.result(job)) == 20_000


def test_jobs_are_listed_newest_first_over_all_pages(client: Client) -> None:
    since = datetime.now(UTC)
    made = [client.submit("echo", {"value": number}, delay=3600).id for number in range(103)]
    listed = list(client.jobs(task="echo", status=Status.QUEUED, created_after=since))
    assert [job.id for job in listed] == made[::-1]
    assert next(iter(client.jobs())).id == made[-1]
    assert list(client.jobs(created_before=since - timedelta(days=1))) == []
    for job in listed:
        client.cancel(job)


def test_tasks_are_described(client: Client) -> None:
    tasks = {task.name: task for task in client.tasks()}
    assert {"comic", "gated"} <= tasks.keys()
    assert tasks["gated"].args_schema["required"] == ["gate"]
    assert tasks["echo"].summary == "Return what it was given"


def test_bad_arguments_are_told_by_field(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.submit("echo", {"text": 5, "more": 1})
    assert {fault.pointer for fault in caught.value.problem.errors} == {"#/args/text", "#/args/more"}
    with pytest.raises(InvalidRequest, match="No task has this name"):
        client.submit("no-such-task")
    with pytest.raises(ValueError, match="zone"):
        client.submit("echo", run_at=datetime(2030, 1, 1))


@pytest.mark.parametrize("id_", ["01a1fcfe-c308-7429-9861-928ac3d85d54", "no/such?job"])
def test_an_unknown_job_is_not_found(client: Client, id_: str) -> None:
    for method in (client.get, client.wait, client.result, client.cancel, client.retry):
        with pytest.raises(NotFound):
            method(id_)
    with pytest.raises(NotFound):
        list(client.watch(id_))


def test_a_submission_whose_answer_was_lost_starts_one_job(connect: Connect, server: ServerProcess) -> None:
    unique = str(uuid4())
    client = connect(server.url, loses=True)
    job = client.submit("echo", {"text": unique})
    assert client.result(job) == unique
    assert [found.id for found in client.jobs(task="echo") if found.args["text"] == unique] == [job.id]


def test_a_retry_whose_answer_was_lost_is_not_repeated(connect: Connect, server: ServerProcess) -> None:
    failed = connect(server.url)
    job = failed.wait(failed.submit("breaks"))
    with pytest.raises(Unreachable):
        connect(server.url, loses=True).retry(job)


def test_the_same_idempotency_key_gets_the_same_job(client: Client) -> None:
    key = str(uuid4())
    assert client.submit("echo", idempotency_key=key).id == client.submit("echo", idempotency_key=key).id
    with pytest.raises(InvalidRequest, match="key"):
        client.submit("echo", {"value": 1}, idempotency_key=key)


def test_a_service_that_is_not_there_is_unreachable(connect: Connect, unused_tcp_port: int) -> None:
    client = connect(f"http://127.0.0.1:{unused_tcp_port}", patience=0.1)
    for ask in (lambda: client.submit("echo"), lambda: client.get("1"), lambda: list(client.watch("1"))):
        with pytest.raises(Unreachable):
            ask()


def test_another_service_at_that_address_is_told_apart(connect: Connect, server: ServerProcess) -> None:
    client = connect(f"{server.url}/user/1/..")
    with pytest.raises(ClientError):
        client.get("1")
    with pytest.raises(UnexpectedAnswer):
        connect(f"{server.url}/health/live?").tasks()


def test_an_operator_uses_the_client(client: Client) -> None:
    assert client.pause("echo").paused_at is not None
    waiting = [client.submit("echo", {"value": number}) for number in range(2)]
    assert client.count_bulk("cancel", task="echo", status="queued") == 2
    assert client.result(client.bulk("cancel", task="echo")) == {"matched": 2, "done": 2, "skipped": 0}
    assert client.get(waiting[0]).status is Status.CANCELLED
    assert client.resume("echo").paused_at is None

    again = client.retry(waiting[0], {"value": "other"})
    assert client.result(again) == "other"
    assert [job.id for job in client.jobs(retry_of=waiting[0])] == [again.id]
    with pytest.raises(Conflict):
        client.run_scheduled("echo")

    [worker] = client.workers()
    assert (worker.engine, worker.last_beat_at is not None, worker.running) == ("embedded", True, ())
    called = client.wait(client.submit("echo", {"value": 1}, callback_url="https://nowhere.invalid/"))
    callback = next(client.callbacks(origin="https://nowhere.invalid:443"))
    assert (callback.job_id, callback.type) == (called.id, "job.succeeded")
    client.replay(called, callback.id)
    with pytest.raises(NotFound):
        client.replay(called, "msg_unknown")
