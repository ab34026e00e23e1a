"""docs/how-to/upgrade.md: a process of an older version goes on after `migrate`, beside processes of this version."""

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest

from quart_async_api.client import Client
from tests.postgresql import ON_BOTH, PostgreSQL, of_psycopg
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PATIENCE, PROGRAM, ServerProcess, run

pytestmark = [pytest.mark.process, pytest.mark.slow]

BEFORE = "bd0145b"  # the last commit before the service ran on several hosts
OF_IT = ("src", "migrations", "hypercorn.toml", "pyproject.toml", "tests/__init__.py", "tests/process")
SERVE = ("serve", "--bind", "127.0.0.1:0")
OLD = ("/usr/bin/env", *PROGRAM)  # without env, it would be forked from a process that has imported this version
JOBS = 10


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the older version."""
    packed = subprocess.run(("git", "archive", BEFORE, *OF_IT), cwd=CHECKOUT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the checkout has no commit {BEFORE}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(params=ON_BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/app.db"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        with server.database() as made:
            yield made


def test_a_process_of_an_older_version_goes_on_on_the_new_schema(url: str, before: Path, tmp_path: Path) -> None:
    settings = {"QAA_DATABASE_URL": url, "QAA_JOB_CONCURRENCY": "1", "QAA_TASKS": "tests.process.job_tasks"}
    of_old = {**settings, "PYTHONPATH": f"{before}/src{os.pathsep}{before}"}
    of_new = {**settings, "PYTHONPATH": str(CHECKOUT)}
    assert run((*OLD, "migrate"), tmp_path, of_old).returncode == 0
    with ServerProcess(tmp_path, of_old, (*OLD, *SERVE)) as old:
        assert httpx.get(f"{old.url}/health/ready").status_code == 200
        migrated = run((*PROGRAM, "migrate"), tmp_path, of_new)
        assert migrated.stdout.startswith("applied "), migrated.stderr
        with ServerProcess(tmp_path, of_new, (*PROGRAM, *SERVE)) as new:
            for submitter, other in ((old, new), (new, old)):
                run_by_the_other(submitter, other, tmp_path)
            many_at_once(old.url, new.url)
            assert httpx.get(f"{old.url}/health/ready").status_code == 200
            assert old.stop() == 0
            with Client(new.url) as client:  # goes on alone
                assert client.wait(client.submit("where")).result == new.pid
            assert new.stop() == 0
    assert_clean(old)
    assert_clean(new)


@pytest.mark.soak
def test_queued_jobs_run_once_though_an_upgrade_changes_the_engine_too_and_back(
    before: Path, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    with postgresql.database() as url, ExitStack() as stack:
        settings = {"QAA_DATABASE_URL": url, "QAA_JOB_CONCURRENCY": "1", "QAA_TASKS": "tests.process.job_tasks"}
        of_old = {**settings, "PYTHONPATH": f"{before}/src{os.pathsep}{before}"}
        of_new = {**settings, "PYTHONPATH": str(CHECKOUT)}
        distributed = {**of_new, "QAA_JOBS_ENGINE": "distributed"}
        assert run((*OLD, "migrate"), tmp_path, of_old).returncode == 0
        last = stack.enter_context(ServerProcess(tmp_path, of_old, (*OLD, *SERVE)))
        jobs: list[str] = []
        for number, settings in enumerate((distributed, of_new, distributed)):
            with Client(last.url) as client:
                gate = tmp_path / f"gate-{number}"
                os.mkfifo(gate)
                holds = client.submit("gated", {"gate": str(gate)})  # so that the others stay queued
                queued = [client.submit("where").id for _ in range(JOBS)] + [client.submit("where", delay=0.5).id]
                assert run((*PROGRAM, "migrate"), tmp_path, settings).returncode == 0
                following = stack.enter_context(ServerProcess(tmp_path, settings, (*PROGRAM, *SERVE)))
                with Client(following.url) as other:
                    assert {other.wait(job).result for job in queued} == {following.pid}
                with gate.open("w"):
                    pass
                assert client.wait(holds).status == "succeeded"
            assert last.stop() == 0
            jobs += [*queued, holds.id]
            last = following
        with psycopg.connect(of_psycopg(url)) as connection:

            def rows(sql: str) -> list[tuple[object, ...]]:
                return connection.execute(sql.encode()).fetchall()

            ended = rows("SELECT id, status, attempt, crashes FROM jobs ORDER BY id")
            assert ended == [(job, "succeeded", 1, 0) for job in sorted(jobs)]
            assert rows("SELECT unfinished, jobs FROM job_usage") == [(0, len(jobs))]
            deadline = time.monotonic() + PATIENCE  # tickets that the embedded engine has left
            while rows("SELECT 1 FROM procrastinate_jobs"):
                assert time.monotonic() < deadline
                connection.rollback()
                time.sleep(0.1)
        assert last.stop() == 0


def run_by_the_other(submitter: ServerProcess, other: ServerProcess, folder: Path) -> None:
    """Submit jobs to one process until the other one runs one, because the only place of the first is taken."""
    with Client(submitter.url) as client:
        for number in count():
            gate = folder / f"gate-{submitter.pid}-{number}"
            os.mkfifo(gate)
            waits = client.submit("gated", {"gate": str(gate)})
            job = client.submit("where")
            events = [event.name for event in client.watch(job)]
            with gate.open("w"):
                pass
            assert client.wait(waits).attempt == 1
            if client.get(job).result == other.pid:
                assert events[-1] == "succeeded"
                return


def many_at_once(*urls: str) -> None:
    """Let both processes submit and claim at the same moment."""
    with ThreadPoolExecutor(4) as pool, Client(urls[0]) as one, Client(urls[1]) as two:
        jobs = [job.id for job in pool.map(lambda number: (one, two)[number % 2].submit("where"), range(2 * JOBS))]
        ended = list(pool.map(one.wait, jobs))
    assert {(job.status, job.attempt) for job in ended} == {("succeeded", 1)}
    assert [[each.outcome for each in job.attempts] for job in ended] == [["succeeded"]] * len(jobs)
