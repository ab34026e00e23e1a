"""Transactions of PostgreSQL that commit in another order than they began: no reader of events passes over one."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from quart_async_api.db.connection import Database
from quart_async_api.jobs import history
from quart_async_api.jobs.history import Event, History, NewEvents, Place
from tests.postgresql import of_psycopg

from .conftest import Make, until

pytestmark = pytest.mark.process
Connection = psycopg.AsyncConnection[tuple[int]]


@pytest.fixture
def backend(migrated_postgresql: str) -> str:
    return migrated_postgresql


@pytest.fixture
async def database(backend: str) -> AsyncIterator[Database]:
    database = Database(backend)
    await database.start()
    try:
        with database.bind():
            yield database
    finally:
        await database.stop()


@pytest.fixture
async def writers(backend: str) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(of_psycopg(backend)))
            for _ in range(4)
        ]


async def write(writer: Connection, job: str, number: int = 1) -> None:
    await writer.execute(
        "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (%s, %s, 'log', '{}', '')",
        (job, number),
    )


async def read(reader: NewEvents[Any]) -> list[str]:
    """The jobs of all new events."""
    found: list[Event] = []
    more = True
    while more:
        events, more = await reader.read()
        found += events
    return [event.job_id for event in found]


async def others_end(database: Database) -> None:
    """Wait for the transactions that are open now in other databases of the server: they hold up readers in order too."""
    [[now]] = await database.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")

    async def have_ended() -> bool:
        [[oldest]] = await database.rows("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        return bool(oldest >= now)

    await until(have_ended, 40)


async def test_who_takes_the_first_id_and_commits_last_is_passed_over_by_nobody(
    database: Database, writers: list[Connection]
) -> None:
    early, late, *_ = writers
    events = History(database)
    live, ordered = events.new(), events.new_in_order()
    live.position, ordered.position = await live.now(), await ordered.now()
    await write(early, "early")
    await write(late, "late")
    await late.commit()
    assert await read(live) == ["late"], "one waits for a transaction of another"
    assert await read(ordered) == []
    assert ordered.is_behind
    await early.commit()
    assert await read(live) == ["early"]
    await others_end(database)
    assert await read(ordered) == ["early", "late"]
    assert not ordered.is_behind
    assert (await read(live), await read(ordered)) == ([], [])

    for seen, rest in (("early", ["late"]), ("late", [])):  # what a client resumes that has seen this one
        place = await events.place(seen, 1)
        assert place is not None
        assert [event.job_id for event in await events.events_after(place)] == rest


async def test_whatever_the_order_of_commits_each_event_comes_once_and_in_one_order(
    database: Database, writers: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 3)
    monkeypatch.setattr(History.events_after, "__defaults__", (3,))
    events, chance = History(database), random.Random(1)  # noqa: S311
    live, ordered = events.new(), events.new_in_order()
    written, at_once, in_order = 0, [], []
    for _ in range(150):
        writer = chance.choice(writers)
        match chance.choice(("write", "write", "write", "commit", "roll back", "read")):
            case "write":
                await write(writer, str(written))
                written += 1
            case "commit":
                await writer.commit()
            case "roll back":
                await writer.rollback()
            case _:  # a page alone: others commit before the next
                at_once += [event.job_id for event in (await live.read())[0]]
                in_order += [event.place for event in (await ordered.read())[0]]
    for writer in writers:
        await writer.commit()
    await others_end(database)
    at_once += await read(live)
    in_order += [event.place for event in await events.events_after(ordered.position, 1000)]
    rows = await database.rows("SELECT txid, id, job_id FROM job_events ORDER BY txid, id")
    assert sorted(at_once) == sorted(job for *_, job in rows)
    places: list[Place] = [(txid, number) for txid, number, _ in rows]
    assert in_order == places
    assert len(places) > 20
    for number, place in enumerate(places):
        assert [event.place for event in await events.events_after(place, 1000)] == places[number + 1 :]


async def test_a_transaction_that_stays_open_holds_up_no_watcher_of_a_job(
    make: Make, writers: list[Connection]
) -> None:
    service = await make()
    await write(writers[0], "open")
    async with service.feed.watch(None) as watcher:
        assert (await service.run("double", number=2)).result == "4"
        assert watcher.take() == []
        await writers[0].commit()
        seen: list[Event] = []
        while len(seen) < 2:
            await watcher.woken()
            seen += watcher.take()
    assert [event.name for event in seen] == ["log", "succeeded"]


async def test_events_that_a_dump_brought_from_another_server_come_neither_again_nor_last(
    database: Database, writers: list[Connection]
) -> None:
    writer = writers[0]
    events = History(database)
    await write(writer, "restored")
    await writer.execute("UPDATE job_events SET txid = 1000000000000")
    await writer.commit()
    live = events.new()
    assert await read(live) == []
    assert await events.forget_transactions() == 1
    assert await events.forget_transactions() == 0
    await write(writer, "new")
    await writer.commit()
    assert await read(live) == ["new"]
    await others_end(database)
    assert [event.job_id for event in await events.events_after((0, 0))] == ["restored", "new"]


async def test_new_events_are_found_by_the_index_of_their_order(database: Database, writers: list[Connection]) -> None:
    writer = writers[0]
    values = (None, [5, 7], 0, 0, 1000, 9, 0, 0, 1000, 1000)
    await writer.execute("SET enable_seqscan = off")
    for sql, given in ((history._NEW, values), (history._IN_ORDER, (1, 1, 1000))):
        plan = await writer.execute(f"EXPLAIN {sql.replace('?', '%s')}".encode(), given)
        assert "Seq Scan on job_events" not in "".join(str(row[0]) for row in await plan.fetchall())
