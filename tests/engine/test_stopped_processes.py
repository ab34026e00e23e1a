"""A process that stops, a server that restarts and a lock that is removed take nothing from those that live."""

import asyncio
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import pytest

from quart_async_api import Settings, create_app
from quart_async_api.jobs import presence
from quart_async_api.jobs.liveness import FileLocks
from quart_async_api.jobs.states import Status
from tests.postgresql import PostgreSQL
from tests.server_process import environment

from .conftest import OWN_POSTGRESQL, Make, Service, until
from .sample_tasks import executions, gate, running

STOPS_IN_A_BATCH = """
import asyncio, os, signal, sys
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.errors import DatabaseUnavailable

def unit():
    yield ("INSERT INTO schedule_ticks (task, tick) VALUES ('stopped', '')", ())
    os.kill(os.getpid(), signal.SIGSTOP)
    yield ("UPDATE schedule_ticks SET tick = 'late' WHERE task = 'stopped'", ())

async def main():
    database = Database(sys.argv[1])
    await database.start()
    try:
        await GroupCommit(database).run(unit)
        print("committed")
    except DatabaseUnavailable:
        print("refused")
    finally:
        await database.stop()

asyncio.run(main())
"""


@asynccontextmanager
async def _stopped_in_a_batch(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has stopped in the middle of a transaction, and holds what that locks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPS_IN_A_BATCH, url, env=environment(), stdout=asyncio.subprocess.PIPE
    )

    def has_stopped() -> bool:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    try:
        await until(has_stopped)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_process_that_stops_in_the_middle_of_a_batch_does_not_stop_the_others(make: Make, backend: str) -> None:
    if backend.startswith("sqlite"):
        pytest.skip("holds the file: see the next test")
    service, other = await make(lease_seconds=5), await make(lease_seconds=5)
    held = await service.submit("hold")
    async with _stopped_in_a_batch(f"{backend}&timeout=2") as stopped:
        # Nobody waits for it, and nobody is refused.
        assert (await service.run("double", number=1)).result == "2"
        assert (await other.run("double", number=2)).result == "4"
        os.kill(stopped.pid, signal.SIGCONT)
        told, _ = await stopped.communicate()
        assert told in (b"committed\n", b"refused\n")  # refused: it was idle for too long
    gate("gate").set()
    ended = await service.wait(held)
    assert (ended.status, ended.attempt, ended.crashes) == (Status.SUCCEEDED, 1, 0)
    assert set(await service.store.workers.beats()) == {service.presence.id, other.presence.id}
    written = await service.database.read("SELECT * FROM schedule_ticks WHERE task = 'stopped'")
    assert bool(written) == (told == b"committed\n")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_stopped_process_that_holds_a_sqlite_file_shows_in_ready_until_it_goes_on(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quart_async_api.db.connection.PING_SECONDS", 0.2)
    app = create_app(Settings(database_url=backend, drain_seconds=1, lease_seconds=0.6))
    async with app.test_app():
        client = app.test_client()
        async with _stopped_in_a_batch(backend) as stopped:

            async def names_the_lock() -> bool:
                ready = await client.get("/health/ready")
                return ready.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "locked" in (await ready.get_data(True))

            await until(names_the_lock)
            os.kill(stopped.pid, signal.SIGCONT)
            told, _ = await stopped.communicate()
            assert told == b"committed\n"

        async def is_ready() -> bool:
            return (await client.get("/health/ready")).status_code == HTTPStatus.OK

        await until(is_ready)


@pytest.mark.parametrize("backend", [OWN_POSTGRESQL], indirect=True)
@pytest.mark.parametrize("job_engine", ["embedded", "distributed"])
async def test_a_server_that_restarts_four_times_makes_nobody_dead(make: Make, own_postgresql: PostgreSQL) -> None:
    services = [await make(lease_seconds=30, crash_limit=1) for _ in range(2)]
    workers = {service.presence.id for service in services}
    jobs = [await service.submit("hold", name="long") for service in services for _ in range(3)]
    await until(lambda: len(running) == len(jobs))
    for _ in range(4):
        before = [loop.succeeded_at for service in services for loop in service.presence.loops]
        await asyncio.to_thread(own_postgresql.kill)
        await asyncio.to_thread(own_postgresql.start)
        await until(lambda before=before: _all_went_on(services, before))  # type: ignore[misc]
    assert set(await services[0].store.workers.beats()) == workers
    gate("long").set()
    for job in jobs:
        ended = await services[0].wait(job)
        assert (ended.status, ended.attempt, ended.crashes) == (Status.SUCCEEDED, 1, 0)
    assert {(await service.run("double", number=1)).attempt for service in services} == {1}


def _all_went_on(services: list[Service], before: list[object]) -> bool:
    loops = [loop for service in services for loop in service.presence.loops]
    return all(loop.error is None and loop.succeeded_at != at for loop, at in zip(loops, before, strict=True))


async def _looks_again(service: Service, times: int = 3) -> None:
    """Until this service has looked for dead workers so many times more."""
    for _ in range(times):
        sweep = service.presence.loops[1]
        before = sweep.succeeded_at
        sweep.wake()
        await until(lambda before=before, sweep=sweep: sweep.succeeded_at != before)  # type: ignore[misc]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_two_names_for_one_file_make_nobody_dead(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "linked.db").symlink_to(tmp_path / "app.db")
    one = await make(lease_seconds=60)
    job = await one.submit("hold")
    await until(lambda: job.id in running)
    other = await make(
        lease_seconds=60, database_url=f"sqlite://{folder}/linked.db"
    )  # only now, or it might run the job
    await _looks_again(one)
    await _looks_again(other)
    assert set(await one.store.workers.beats()) == {one.presence.id, other.presence.id}
    # And the death of one is seen at once by the other.
    await one.die()
    await until(lambda: executions[job.id] == 2)
    gate("gate").set()
    assert (await other.wait(job)).crashes == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_folder_of_locks_that_somebody_removed_makes_nobody_dead(make: Make, tmp_path: Path) -> None:
    one = await make(lease_seconds=60)
    job = await one.submit("hold")
    await until(lambda: job.id in running)
    other = await make(lease_seconds=60)  # only now, or it might run the job itself
    await asyncio.to_thread(shutil.rmtree, tmp_path / "app.db.workers")
    await _looks_again(other)
    assert set(await one.store.workers.beats()) == {one.presence.id, other.presence.id}
    # The next beat makes the lock anew, and with it a death is seen at once.
    one.presence.loops[0].wake()
    await until((tmp_path / "app.db.workers" / one.presence.id).exists)
    await _looks_again(other)
    await one.die()
    await until(lambda: executions[job.id] == 2)
    gate("gate").set()
    assert (await other.wait(job)).crashes == 1


async def test_what_a_process_did_not_look_at_itself_is_no_silence_of_others(make: Make) -> None:
    # A process that slept, or could not reach the database, has nothing to say of the time in between.
    one, other = await make(lease_seconds=5), await make(lease_seconds=5)
    await _looks_again(other)
    other.presence._looked_at -= 3600
    await _looks_again(other)
    assert set(await one.store.workers.beats()) == {one.presence.id, other.presence.id}


async def test_a_worker_whose_lock_is_made_anew_is_not_dead_for_a_moment(tmp_path: Path) -> None:
    living, watcher = FileLocks(tmp_path / "app.db"), FileLocks(tmp_path / "app.db")
    await living.hold("worker")
    over = threading.Event()

    def watch() -> bool:
        found = False
        while not over.is_set():
            found = found or watcher._is_free("worker")
        return found

    watching = asyncio.create_task(asyncio.to_thread(watch))
    for _ in range(500):
        await living.forget("worker")  # as if somebody removed it
        await asyncio.to_thread(living._lock)
    over.set()
    assert not await watching
    await living.release()


async def test_each_heartbeat_whose_lock_could_not_be_made_kept_a_descriptor(tmp_path: Path) -> None:
    living = FileLocks(tmp_path / "app.db")
    (tmp_path / "app.db.workers" / "worker").mkdir(parents=True)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        await living.hold("worker")
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_those_who_waited_for_the_same_lock_had_no_time_left_for_their_heartbeats(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await make(lease_seconds=3)
    now = time.monotonic()
    monkeypatch.setattr(presence, "time", SimpleNamespace(monotonic=lambda: now))
    watcher = presence.Presence(service.store, service.settings, service.presence._liveness)
    heartbeat = watcher.loops[0]
    interval = 1.0  # a third of the lease

    def watched_for() -> float:
        return watcher._watched["another"].seconds

    watcher._watch({"another": 7})
    for _ in range(5):
        now += 0.5
        watcher._watch({"another": 7})
    assert watched_for() == 2.5
    heartbeat.wake()
    await until(lambda: heartbeat.late > presence.SWEEP_SECONDS)  # the file is locked: no heartbeat is written
    for _ in range(20):
        now += 0.5
        watcher._watch({"another": 7})
    assert watched_for() == service.settings.lease_seconds - interval
    watcher._watch({"another": 8})
    assert watched_for() == 0


async def test_a_worker_whose_heartbeat_came_meanwhile_was_declared_dead(make: Make) -> None:
    service, other = await make(lease_seconds=60), await make(lease_seconds=60)
    held = await service.submit("hold")
    await until(lambda: executions[held.id] == 1)
    worker = (await service.store.reading.get(held.id, None)).worker
    assert worker in (service.presence.id, other.presence.id)
    seen = (await other.store.workers.beats())[worker]
    assert await other.store.workers.beat(worker, other.now())
    assert await other.store.crashes.bury(worker, held.created_at, 60, 3, "{}", beat=seen) is None
    gate("gate").set()
    ended = await service.wait(held)
    assert (ended.status, ended.attempt, ended.crashes) == (Status.SUCCEEDED, 1, 0)
