"""`quart-async-api db` with real servers: a move to PostgreSQL in which no job is lost, and a backup under load."""

import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from quart_async_api.client import Client
from tests.process.conftest import CHECKOUT, Start, assert_clean, serve
from tests.server_process import PROGRAM, run

pytestmark = pytest.mark.process

TASKS = {"QAA_TASKS": "tests.process.job_tasks", "PYTHONPATH": str(CHECKOUT)}


def test_a_service_that_was_killed_goes_on_on_postgresql_with_all_that_it_had(
    tmp_path: Path, migrated_file: Path, migrated_postgresql: str
) -> None:
    source = f"sqlite://{tmp_path}/app.db"
    copy = (*PROGRAM, "db", "copy", "--from", source, "--to", migrated_postgresql)
    target = {"QAA_DATABASE_URL": migrated_postgresql, "QAA_JOBS_ENGINE": "distributed"}
    assert run((*PROGRAM, "migrate"), tmp_path, target).returncode == 0
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    traced = {"folder": str(tmp_path), "seconds": 0}
    added = {"json": {"name": "Ada", "email": "ada@example.com"}, "headers": {"Idempotency-Key": "once"}}
    with serve(tmp_path, migrated_file, QAA_JOB_CONCURRENCY="1", **TASKS) as old:
        with Client(old.url) as client:
            running = client.submit("gated", {"gate": str(gate)})
            queued = [client.submit("traced", traced) for _ in range(3)]
            later = client.submit("traced", traced, delay=1)
            while client.get(running.id).status != "running":
                pass
        user = httpx.post(f"{old.url}/add-user", **added).json()  # type: ignore[arg-type]
        refused = run(copy, tmp_path)
        assert refused.returncode == 1
        assert "may be in use by 1 workers" in refused.stderr
        old.stop(signal.SIGKILL)
    done = run((*copy, "--json"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobs"]["rows"] == 5
    assert "jobs: 5 rows, checked" in done.stderr

    with (
        serve(tmp_path, migrated_file, **TASKS, **target) as new,
        Client(new.url) as client,
    ):
        gate.open("w").close()
        assert [client.wait(job.id).attempt for job in (running, *queued, later)] == [2, 1, 1, 1, 1]
        assert [each.outcome for each in client.get(running.id).attempts] == ["crashed", "succeeded"]
        again = httpx.post(f"{new.url}/add-user", **added)  # type: ignore[arg-type]
        assert (again.json(), again.headers["Idempotent-Replayed"]) == (user, "true")
        ended = [line.split()[0] for line in (tmp_path / "ran").read_text().splitlines() if line.endswith("ended")]
        assert sorted(ended) == sorted(job.id for job in (*queued, later))  # each once
        assert new.stop() == 0
    assert_clean(new)


def test_a_database_that_is_not_migrated_is_named(tmp_path: Path, database_file: Path) -> None:
    missing = run((*PROGRAM, "db", "copy", "--from", "sqlite://none.db", "--to", f"sqlite://{database_file}"), tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert (
        missing.stderr == "error: sqlite://none.db: there is no database none.db yet: run `quart-async-api migrate`\n"
    )


def test_a_backup_under_load_is_whole_private_and_restorable(start: Start, tmp_path: Path, migrated_file: Path) -> None:
    server = start(**TASKS)
    settings = {"QAA_DATABASE_URL": f"sqlite://{tmp_path}/app.db"}
    backup = (*PROGRAM, "db", "backup", "saved.db", "--json")
    with Client(server.url) as client, ThreadPoolExecutor() as pool:
        before = [client.submit("test").id for _ in range(20)]
        running = client.submit("once-more").id
        while client.get(running).status != "running":
            pass
        making = pool.submit(run, backup, tmp_path, settings)
        while not making.done():
            client.submit("test")
        done = making.result()
    assert done.returncode == 0, done.stderr
    saved = tmp_path / "saved.db"
    assert json.loads(done.stdout) == {"file": "saved.db", "bytes": saved.stat().st_size}
    assert saved.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*partial*"))
    with closing(sqlite3.connect(saved)) as database:
        assert set(before) <= {row[0] for row in database.execute("SELECT id FROM jobs")}
    again = run(backup, tmp_path, settings)
    assert (again.returncode, again.stderr) == (1, "error: saved.db exists already: name a new file\n")

    restored = tmp_path / "restored"
    restored.mkdir()
    saved.rename(restored / "app.db")
    with serve(restored, migrated_file, QAA_LEASE_SECONDS="1", **TASKS) as other, Client(other.url) as client:
        assert {client.wait(job_id).status for job_id in before} == {"succeeded"}
        assert [each.outcome for each in client.wait(running).attempts] == ["crashed", "succeeded"]


def test_postgresql_is_backed_up_by_its_own_program(tmp_path: Path, migrated_postgresql: str) -> None:
    ended = run((*PROGRAM, "db", "backup", "saved.db"), tmp_path, {"QAA_DATABASE_URL": migrated_postgresql})
    assert ended.returncode == 1
    assert "pg_dump --format=custom --file=saved.db 'postgresql://postgres@/" in ended.stderr


def test_a_damaged_database_is_not_taken_for_a_backup(tmp_path: Path, database_file: Path) -> None:
    with database_file.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    ended = run((*PROGRAM, "db", "backup", "saved.db"), tmp_path, {"QAA_DATABASE_URL": f"sqlite://{database_file}"})
    assert ended.returncode == 1
    assert "damaged" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*saved*"))
