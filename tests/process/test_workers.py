"""`worker` and `serve --no-jobs`: processes that run jobs, and processes that take them, on either engine."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from quart_async_api.client import Client, Job
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process

PATIENCE = 60.0


class Run(Protocol):
    def __call__(self, *command: str, **settings: str) -> ServerProcess: ...


def settings_for(url: str) -> dict[str, str]:
    engine = "embedded" if url.startswith("sqlite") else "distributed"
    return {
        "QAA_DATABASE_URL": url,
        "QAA_JOBS_ENGINE": engine,
        "QAA_TASKS": "tests.process.job_tasks",
        "PYTHONPATH": str(CHECKOUT),
        "QAA_DELAY": "0",
    }


@pytest.fixture(params=["sqlite", "distributed"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return f"sqlite://{request.getfixturevalue('database_file')}"
    return str(request.getfixturevalue("distributed_postgresql"))


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Run]:
    """Starts processes of the service on the one database, and waits until they serve."""
    with ExitStack() as stack:
        started: list[ServerProcess] = []

        def start(*command: str, **settings: str) -> ServerProcess:
            process = ServerProcess(tmp_path, settings_for(url) | settings, (*PROGRAM, *command))
            started.append(stack.enter_context(process))
            assert process.url
            return process

        yield start
    for process in started:
        assert_clean(process)


def ran(api: ServerProcess, task: str) -> Job:
    with Client(api.url) as client:
        return client.wait(client.submit(task), timeout=PATIENCE)


def test_jobs_run_in_the_workers_of_their_queues_alone(start: Run, url: str, tmp_path: Path) -> None:
    run((*PROGRAM, "webhooks", "secret", "--rotate"), tmp_path, settings_for(url))
    api = start("serve", "--no-jobs", "--bind", "127.0.0.1:0", QAA_INBOX="1")
    slow = start("worker", "--queues", "slow", "--concurrency", "2", QAA_INBOX="1")
    with Client(api.url) as client:
        waits = client.submit("where")
        assert ran(api, "where-slow").result == slow.pid
        assert _arrived_in_the_console(api, "where-slow")["problem"] is None
        rest = start("worker", "--queues", "default")
        assert client.wait(waits, timeout=PATIENCE).result == rest.pid
        assert client.get(waits).attempt == 1
        assert httpx.get(f"{rest.url}/health/live").status_code == 200
        ready = httpx.get(f"{rest.url}/health/ready")
        assert (ready.status_code, ready.json()["checks"]["engine:jobs"][0]["status"]) == (200, "pass")
        assert httpx.get(f"{rest.url}/jobs").status_code == 404
        endless = client.submit("once-more")
        _until_running(client, endless)
        client.cancel(endless.id)
        assert client.wait(endless, timeout=PATIENCE).status == "cancelled"
    for process in (rest, slow, api):
        assert process.stop() == 0, process.log


def _arrived_in_the_console(api: ServerProcess, task: str) -> dict[str, Any]:
    """Send the callback of a job to the receiver of the first page, and return what arrived there."""
    found = re.search(r'data-inbox="([^"]+)" data-token="([^"]+)"', httpx.get(api.url).text)
    assert found
    with httpx.stream("GET", f"{api.url}/console/pulse?inbox={found[2]}", timeout=PATIENCE) as pulse:
        with Client(api.url) as client:
            job = client.submit(task, callback_url=found[1])
        lines = pulse.iter_lines()
        assert "event: callback" in islice(lines, 400)  # the lag comes twice a second
        arrival: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
    assert arrival["job_id"] == job.id
    return arrival


def test_a_worker_that_is_stopped_gives_its_jobs_to_another(start: Run) -> None:
    api = start("serve", "--no-jobs", "--bind", "127.0.0.1:0", "--processes", "2")
    first = start("worker", QAA_DRAIN_SECONDS="0.2")
    with Client(api.url) as client:
        job = client.submit("once-more")
        _until_running(client, job)
        assert first.stop() == 0
        start("worker")
        _until_running(client, job)
        assert client.get(job).attempt == 1  # the shutdown gave the attempt back


def _until_running(client: Client, job: Job) -> None:
    deadline = time.monotonic() + PATIENCE
    while client.get(job).status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_queue_that_no_task_has_is_a_mistake(tmp_path: Path, database_file: Path) -> None:
    settings = settings_for(f"sqlite://{database_file}")
    refused = run((*PROGRAM, "worker", "--queues", "fast,slow"), tmp_path, settings)
    assert (refused.returncode, refused.stderr) == (1, "error: no task has the queue 'fast'; there are default, slow\n")


@pytest.mark.parametrize("command", ["worker", "serve", "migrate"])
def test_the_distributed_engine_on_sqlite_is_refused_in_one_line(
    tmp_path: Path, database_file: Path, command: str
) -> None:
    settings = settings_for(f"sqlite://{database_file}") | {"QAA_JOBS_ENGINE": "distributed"}
    refused = run((*PROGRAM, command), tmp_path, settings)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: QAA_JOBS_ENGINE=distributed needs PostgreSQL")
    assert refused.stderr.count("\n") == 1
