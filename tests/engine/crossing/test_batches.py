"""Units of one process and of others in one database: what waits, what crosses, and how many round trips it takes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg
import pytest

from quart_async_api.db import lockstep
from quart_async_api.db.group_commit import Hold, Late, Sum, Unit, in_step
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import Status

from ..conftest import Make
from .conftest import Connect, fleet_of, waits_for

pytestmark = pytest.mark.process
T = TypeVar("T")


async def test_units_that_wait_for_each_other_are_run_again(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    other = await connect()
    insert = "INSERT INTO schedule_ticks (task, tick) VALUES ('crossing', ?)"
    change = "UPDATE schedule_ticks SET task = task WHERE tick = ?"

    def unit(*statements: tuple[str, str]) -> Callable[[], Unit[None]]:
        def run() -> Unit[None]:
            for sql, value in statements:
                yield (sql, (value,))

        return run

    await service.commits.run(unit((insert, "a"), (insert, "b")))
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute(change.replace("?", "'b'").encode())
    before = service.commits.commits
    crossing = asyncio.gather(
        service.commits.run(unit((change, "a"), (change, "b"))), service.commits.run(unit((insert, "c")))
    )
    await waits_for(service, "UPDATE schedule_ticks")
    waiting = asyncio.create_task(other.execute(change.replace("?", "'a'").encode()))
    await waiting
    await other.commit()
    await crossing
    assert service.commits.commits - before == 2  # each alone
    assert len(await service.database.rows("SELECT 1 FROM schedule_ticks")) == 3


async def test_parts_in_step_share_their_round_trips_and_wait_for_a_key(make: Make) -> None:
    [service] = await fleet_of(make, 1)
    steps: list[str] = []

    def part(name: str, key: str | None) -> Unit[str]:
        if key is not None:
            yield Hold(key)
        for number in range(2):
            steps.append(f"{name}{number}")
            yield ("INSERT INTO schedule_ticks (task, tick) VALUES ('step', ?)", (f"{name}{number}",))
        return name

    def unit() -> Unit[list[str]]:
        yield Sum("UPDATE schedule_ticks SET tick = ? || '!' || ? WHERE task = 'none'", ("row", 1))
        yield Late("DELETE FROM schedule_ticks WHERE tick = ?", ("a0",))
        return (yield from in_step([part("a", None), part("b", "key"), part("c", "key")]))

    assert await service.commits.run(unit) == ["a", "b", "c"]
    assert steps == ["a0", "b0", "a1", "b1", "c0", "c1"] or steps == ["a0", "a1", "b0", "b1", "c0", "c1"]
    ticks = await service.database.rows("SELECT tick FROM schedule_ticks ORDER BY tick")
    assert [tick for (tick,) in ticks] == ["a1", "b0", "b1", "c0", "c1"]


async def test_parts_in_step_take_their_keys_in_one_order(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    first, last = sorted(("some key", "other key"), key=lockstep.number)
    other = await connect()
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(first),))

    def part(key: str) -> Unit[None]:
        yield Hold(key)

    holding = asyncio.create_task(service.commits.run(lambda: in_step([part(last), part(first)])))
    await waits_for(service, "SELECT pg_advisory_xact_lock")
    taken = await (await other.execute("SELECT pg_try_advisory_xact_lock(%s)", (lockstep.number(last),))).fetchone()
    await other.rollback()
    await holding
    assert taken == (True,)


async def test_a_batch_takes_as_few_round_trips_as_one_of_its_units(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    [service] = await fleet_of(make, 1, job_queue_limit=1_000_000)
    trips = 0
    sync = psycopg.AsyncPipeline.sync

    async def counted(pipeline: psycopg.AsyncPipeline) -> None:
        nonlocal trips
        trips += 1
        await sync(pipeline)

    monkeypatch.setattr(psycopg.AsyncPipeline, "sync", counted)
    worker, now = new_id(), service.now()
    await service.store.workers.register(worker, now)

    async def costs(*calls: Coroutine[Any, Any, T]) -> tuple[int, list[T]]:
        nonlocal trips
        trips, before = 0, service.commits.commits
        outcomes = await asyncio.gather(*calls)
        assert service.commits.commits - before == 1
        return trips, outcomes

    submitted, _ = await costs(*(service.submit("double", number=1) for _ in range(100)))
    claimed, [runs] = await costs(service.store.claims.claim(("double",), 100, worker, now, new_id))
    write = service.store.transitions
    noted, _ = await costs(*(write.record(run.id, run.run_token or "", now, "log", {}, 9) for run in runs[:50]))
    ended, _ = await costs(
        *(write.finish(run.id, run.run_token or "", Status.SUCCEEDED, now, 60, known=run) for run in runs[50:])
    )
    await asyncio.gather(*(service.submit("double", number=1) for _ in range(50)))
    waiting = await service.store.reading.page(50, None)
    cancelled, _ = await costs(*(write.cancel(job.id, now, 60) for job in waiting))
    assert (submitted, claimed, noted, ended, cancelled) == (5, 7, 4, 3, 4)
