"""Workers of the distributed engine that are killed, stopped, or cut off from their database."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from quart_async_api.client import Client, Job
from tests.postgresql import of_psycopg
from tests.process.conftest import CHECKOUT
from tests.process.relay import Relay
from tests.process.test_jobs_crash import traces
from tests.process.test_workers import PATIENCE, Run
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process


@pytest.fixture
def start(tmp_path: Path, distributed_postgresql: str) -> Iterator[Run]:
    """Starts processes of the service, and waits until they serve."""
    with ExitStack() as stack:

        def start(*command: str, **settings: str) -> ServerProcess:
            given = {
                "QAA_DATABASE_URL": distributed_postgresql,
                "QAA_JOBS_ENGINE": "distributed",
                "QAA_TASKS": "tests.process.job_tasks",
                "QAA_CRASH_LIMIT": "1000",
                "PYTHONPATH": str(CHECKOUT),
            }
            process = stack.enter_context(ServerProcess(tmp_path, given | settings, (*PROGRAM, *command)))
            assert process.url
            return process

        yield start


def _until_begun(folder: Path, job: Job, attempt: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (folder / "ran").exists() or (attempt, "began") not in traces(folder)[job.id]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _kill_again_and_again(start: Run, folder: Path, url: str, kills: int) -> None:
    random_ = random.Random(kills)  # noqa: S311  that a failure can be repeated
    api = start("serve", "--no-jobs", "--bind", "127.0.0.1:0")
    workers = [start("worker") for _ in range(2)]
    jobs: list[Job] = []
    with Client(api.url) as client:
        for _ in range(kills):
            for _ in range(20):
                seconds = round(random_.uniform(0, 0.3), 3)
                jobs.append(client.submit("traced", {"folder": str(folder), "seconds": seconds}))
            workers.pop(0).send(signal.SIGKILL)
            workers.append(start("worker"))
        ended = [client.wait(job, timeout=60) for job in jobs]
    assert {job.status for job in ended} == {"succeeded"}
    ran = traces(folder)
    for job in ended:
        begun = [attempt for attempt, what in ran[job.id] if what == "began"]
        assert begun == sorted(set(begun)), f"an attempt of {job.id} began twice"
        assert ran[job.id][-1] == (job.attempt, "ended")
    with psycopg.connect(of_psycopg(url)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM jobs").fetchone() == (len(jobs),)
        assert connection.execute("SELECT COUNT(*) FROM procrastinate_jobs WHERE status = 'todo'").fetchone() == (0,)


@pytest.mark.slow
def test_no_job_is_lost_or_ends_twice_whichever_worker_is_killed(
    start: Run, tmp_path: Path, distributed_postgresql: str
) -> None:
    _kill_again_and_again(start, tmp_path, distributed_postgresql, 3)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_job_is_lost_or_ends_twice_in_fifty_kills(start: Run, tmp_path: Path, distributed_postgresql: str) -> None:
    _kill_again_and_again(start, tmp_path, distributed_postgresql, 50)


@pytest.mark.slow
def test_a_worker_that_was_stopped_for_longer_than_its_lease_writes_nothing_and_works_again(
    start: Run, tmp_path: Path
) -> None:
    api = start("serve", "--no-jobs", "--bind", "127.0.0.1:0")
    stopped = start("worker", QAA_LEASE_SECONDS="2")
    with Client(api.url) as client:
        job = client.submit("traced", {"folder": str(tmp_path), "seconds": 1.0})
        _until_begun(tmp_path, job, 1)
        stopped.send(signal.SIGSTOP)
        other = start("worker", QAA_LEASE_SECONDS="2")
        _until_begun(tmp_path, job, 2)
        stopped.send(signal.SIGCONT)
        stopped.wait_for("sent no heartbeat for longer than its lease")
        ended = client.wait(job, timeout=PATIENCE)
        assert (ended.status, ended.attempt, ended.result) == ("succeeded", 2, 2)
        assert [attempt.outcome for attempt in ended.attempts] == ["crashed", "succeeded"]
        assert other.stop() == 0
        assert client.wait(client.submit("where"), timeout=PATIENCE).result == stopped.pid
    assert stopped.stop() == 0


@pytest.mark.slow
def test_a_worker_whose_database_fell_silent_ends_and_another_runs_its_jobs(
    start: Run, distributed_postgresql: str
) -> None:
    api = start("serve", "--no-jobs", "--bind", "127.0.0.1:0")
    with Relay(distributed_postgresql) as relay, Client(api.url) as client:
        cut_off = start("worker", QAA_DATABASE_URL=relay.url, QAA_LEASE_SECONDS="2")
        job = client.submit("once-more")
        while client.get(job).status != "running":
            time.sleep(0.02)
        start("worker", QAA_LEASE_SECONDS="2")
        relay.cut()
        assert cut_off.wait() == 75
        assert "the database has not answered a heartbeat of this worker for 4 s" in cut_off.log
        ended = client.wait(job, timeout=PATIENCE)
        assert (ended.status, ended.attempt) == ("succeeded", 2)
