"""The checks of `doctor`: each fault, made on purpose, is found; without any, none is."""

from pathlib import Path

import httpx
import psycopg
import pytest

from quart_async_api import Settings, create_app
from quart_async_api.client.errors import UnexpectedAnswer
from quart_async_api.client.health import health
from quart_async_api.commands import doctor_processes
from quart_async_api.db.url import parse
from quart_async_api.service import Service
from quart_async_api.services import checkup_postgresql, checkup_sqlite
from quart_async_api.services.attention import Kind
from quart_async_api.services.check import Check
from quart_async_api.services.checkup import Checkup
from quart_async_api.tasks import registry

from . import sample_tasks
from .conftest import Make, until


async def look(url: str, *, engine: str = "embedded", known: bool = True) -> dict[str, Check]:
    """What is checked, by its name."""
    service = Service(Settings(database_url=url, jobs_engine=engine), registry([sample_tasks] if known else []))  # type: ignore[arg-type]
    found = await Checkup(
        service.settings, service.database, service.store.workers, service.liveness, service.tasks
    ).run()
    for check in found:
        assert bool(check.fault) == bool(check.why and check.remedy)
    return {check.name: check for check in found}


async def faults(url: str, *, engine: str = "embedded", known: bool = True) -> dict[str, str]:
    return {name: check.fault for name, check in (await look(url, engine=engine, known=known)).items() if check.fault}


async def test_a_database_that_works_has_no_faults(make: Make, backend: str) -> None:
    service = await make()
    await service.run("double", number=1)
    assert await faults(backend) == {}


async def test_an_engine_that_works_has_no_faults(distributed_postgresql: str) -> None:
    checks = await look(distributed_postgresql, engine="distributed")
    assert {name for name, check in checks.items() if check.fault} == set()
    assert {"engine tables", "engine plan", "engine triggers", "queued jobs", "tickets", "fetched tickets"} <= set(
        checks
    )


async def test_jobs_of_tasks_that_nobody_has_and_without_a_process_are_told(make: Make, backend: str) -> None:
    service = await make(engine=False)
    await service.submit("double", number=1)
    found = await faults(backend, known=False)
    assert found.keys() == {"workers", "tasks"}
    assert "double (1)" in found["tasks"]


async def test_a_worker_that_died_is_told(make: Make, backend: str) -> None:
    service = await make()
    await service.die()

    async def is_told() -> bool:
        return service.presence.id in (await faults(backend)).get("workers", "")

    await until(is_told)  # a process that is being started elsewhere may have the lock until it runs its program


async def test_a_database_that_is_not_there_is_one_fault(tmp_path: Path) -> None:
    found = await look(f"sqlite://{tmp_path}/missing.db")
    assert (found["database"].remedy, len(found)) == ("quart-async-api migrate", 1)
    found = await look("postgresql://nobody@127.0.0.1:1/nothing?timeout=2")
    assert "QAA_DATABASE_URL" in found["database"].remedy


async def test_missing_migrations_are_told(make: Make, backend: str) -> None:
    service = await make(engine=False)
    await service.database.client.execute_query("DELETE FROM tortoise_migrations WHERE name LIKE '0012%'")
    found = await look(backend)
    assert found["migrations"].remedy == "quart-async-api migrate"


async def test_the_file_and_the_disk_of_sqlite_are_checked(
    database_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database_file.chmod(0o644)
    monkeypatch.setattr(checkup_sqlite, "FREE_BYTES", 2**62)
    monkeypatch.setattr(checkup_sqlite, "WAL_BYTES", -1)
    assert (await faults(f"sqlite://{database_file}")).keys() == {"file mode", "disk", "write-ahead log"}


async def test_a_transaction_that_stays_open_and_a_clock_that_is_off_are_told(
    migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup_postgresql, "OPEN_SECONDS", 0)
    monkeypatch.setattr(checkup_postgresql, "CLOCK_SECONDS", -1.0)
    async with await psycopg.AsyncConnection.connect(parse(migrated_postgresql).conninfo(5)) as idle:
        await idle.execute("SELECT 1")
        found = await faults(migrated_postgresql)
        assert found.keys() == {"transactions", "clock"}
        assert f"pid {idle.info.backend_pid} " in found["transactions"]


async def test_faults_of_the_engine_are_told(make: Make, distributed_postgresql: str) -> None:
    with psycopg.connect(parse(distributed_postgresql).conninfo(5)) as connection:
        connection.execute("ALTER FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) RESET ALL")
        connection.execute("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('a', 'run_job', 'no job')"
        )
        connection.execute(
            "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 day') RETURNING id) "
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) SELECT 'a', 'b', 'doing', id FROM dead"
        )
        connection.execute(
            "INSERT INTO jobs (id, task, status, stage, turn, args, urgency, max_attempts, created_at, run_at, attempt, "
            "failures, crashes, last_event) VALUES ('1', 'double', 'queued', 'ready', 1, '{}', 0, 1, '', '', 0, 0, 0, 0)"
        )
    found = await faults(distributed_postgresql, engine="distributed")
    assert found.keys() == {"engine plan", "engine triggers", "queued jobs", "tickets", "fetched tickets", "workers"}


async def test_an_engine_without_its_tables_is_told(migrated_postgresql: str) -> None:
    found = await look(migrated_postgresql, engine="distributed")
    assert found["engine tables"].remedy == "QAA_JOBS_ENGINE=distributed quart-async-api migrate"


async def test_what_only_a_process_knows_is_asked_of_it(database_file: Path) -> None:
    app = create_app(Settings(database_url=f"sqlite://{database_file}", drain_seconds=0.1))
    serves = httpx.ASGITransport(app)  # type: ignore[arg-type]

    async def asked() -> dict[str, Check]:
        found = doctor_processes.judged("it", await health("http://127.0.0.1:8000/", transport=serves))
        return {check.name: check for check in found}

    async with app.test_app():
        assert await asked() == {"it": Check("it", "is ready")}
        app.service.attention.troubles[Kind.GROWING_QUEUE] = "the queue only grows"
        app.service.lifecycle.draining.set()
        found = await asked()
    assert found.keys() == {"it attention:growing-queue", "it process:draining"}
    assert all(check.fault and check.why and check.remedy for check in found.values())
    names = [*(f"attention:{kind}" for kind in Kind), "event-loop:lag", "event-loop:blocked", "database:connection"]
    assert all(any(name.startswith(begins) for begins in doctor_processes._WHY) for name in names)


async def test_a_process_that_does_not_answer_and_another_program_in_its_place_are_told() -> None:
    [gone] = await doctor_processes.checks("http://127.0.0.1:1")
    assert (gone.fault or "").startswith("no answer: ")
    other = httpx.MockTransport(lambda request: httpx.Response(200, text="hello"))
    with pytest.raises(UnexpectedAnswer, match="answers 200, without checks"):
        await health("http://127.0.0.1:8000", transport=other)
