"""docs/how-to/upgrade.md: a process of an older version goes on after `migrate`, beside processes of this version."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest

from quart_async_api.client import Client
from tests.postgresql import ON_BOTH, PostgreSQL
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

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
