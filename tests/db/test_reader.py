"""Reads beside the connection that writes: what they see, whom they wait for, and what they leave."""

import asyncio
import os
import shutil
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from quart_async_api.db import postgresql_reader
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit, Unit
from quart_async_api.db.models import User
from quart_async_api.db.postgresql_reader import QUICK_SECONDS
from quart_async_api.db.url import LONGEST_LOG
from quart_async_api.errors import DatabaseUnavailable
from tests.postgresql import of_psycopg

from .conftest import started

INSERT = "INSERT INTO users (name, email, email_key) VALUES (?, ?, ?)"
NAMES = "SELECT name FROM users ORDER BY id"
# Counts for about as long as it is told: hours, or a tenth of a second.
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT MAX(i) FROM n"
FOR_HOURS, FOR_A_MOMENT = 10**11, 10**6

QUICK = "SELECT 1, 'a' AS text"


def adding(name: str) -> Unit[None]:
    yield (INSERT, (name, name, name))


@pytest.fixture
def file(database_file: Path) -> Path:
    return database_file


@pytest.fixture
def sqlite_url(file: Path) -> str:
    return f"sqlite://{file}"


async def test_rows_are_tuples_and_dicts_in_their_order(database: Database) -> None:
    commits = GroupCommit(database)
    await asyncio.gather(*(commits.run(lambda name=name: adding(name)) for name in ("a", "b")))  # type: ignore[misc]
    assert await database.rows(NAMES) == [("a",), ("b",)]
    assert await database.read("SELECT name, email AS e FROM users WHERE name = ?", "b") == [{"name": "b", "e": "b"}]
    assert await database.rows("SELECT name FROM users WHERE name = ?", "c") == []


async def test_whoever_has_written_reads_it(database: Database) -> None:
    commits = GroupCommit(database)

    async def write_and_read(number: int) -> None:
        name = str(number)
        if number % 2:
            await commits.run(lambda: adding(name))
        else:
            async with database.transaction():
                await User.create(name=name, email=name, email_key=name)
        assert await database.rows("SELECT name FROM users WHERE name = ?", name) == [(name,)]

    await asyncio.gather(*(write_and_read(number) for number in range(200)))


async def test_inside_a_transaction_reads_have_its_writes_and_outside_nobody_waits_for_it(database: Database) -> None:
    inside, end = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with database.transaction():
            await User.create(name="a", email="a", email_key="a")
            assert await database.rows(NAMES) == [("a",)]
            assert await database.read(NAMES) == [{"name": "a"}]
            inside.set()
            await end.wait()

    writing = asyncio.create_task(write())
    await inside.wait()
    assert await database.rows(NAMES) == []
    end.set()
    await writing
    assert await database.rows(NAMES) == [("a",)]


async def test_a_column_that_is_added_meanwhile_is_there(database: Database) -> None:
    await GroupCommit(database).run(lambda: adding("a"))
    for _ in range(10):  # until the statement is prepared
        assert len((await database.rows("SELECT * FROM users"))[0]) == 4
    await database.client.execute_query("ALTER TABLE users ADD COLUMN later INTEGER DEFAULT 5")
    for _ in range(10):
        assert (await database.read("SELECT * FROM users"))[0]["later"] == 5
        assert len((await database.rows("SELECT * FROM users"))[0]) == 5


async def test_a_statement_at_fault_fails_alone(database: Database) -> None:
    outcomes = await asyncio.gather(
        *(database.rows(sql) for sql in (QUICK, "SELECT nonsense", QUICK)), return_exceptions=True
    )
    assert [outcomes[0], outcomes[2]] == [[(1, "a")]] * 2
    assert isinstance(outcomes[1], sqlite3.OperationalError | psycopg.errors.UndefinedColumn)
    assert not isinstance(outcomes[1], DatabaseUnavailable)


@pytest.mark.parametrize("value", ["\ud800", "\0"])
async def test_a_value_that_cannot_be_sent_failed_all_reads_beside_it(database: Database, value: str) -> None:
    named = "SELECT name FROM users WHERE name = ?"
    outcomes = await asyncio.gather(
        database.rows(QUICK),
        database.rows(named, value),
        *(database.rows(QUICK) for _ in range(20)),
        return_exceptions=True,
    )
    del outcomes[1]
    assert outcomes == [[(1, "a")]] * 21


async def test_reads_waited_for_ever_for_a_thread_that_could_not_start(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with started(sqlite_url) as database:
        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", refuse)
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable, match="thread"):
                    async with asyncio.timeout(60):
                        await database.rows(QUICK)
        assert await database.rows(QUICK) == [(1, "a")]
    async with started(sqlite_url) as database:
        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", refuse)
            with pytest.raises(DatabaseUnavailable, match="thread"):
                await database.rows(QUICK)  # and the stop does not wait for it


async def test_reads_that_wait_together_share_a_hop(sqlite_url: str) -> None:
    async with started(sqlite_url) as database:
        assert await asyncio.gather(*(database.rows(QUICK) for _ in range(100))) == [[(1, "a")]] * 100
        assert database.hops == 1
        await asyncio.gather(*(database.rows(QUICK) for _ in range(1001)))
        assert database.hops == 4  # at most 500 in one


async def test_a_cancelled_read_takes_no_other_with_it(sqlite_url: str) -> None:
    async with started(sqlite_url) as database:
        for _ in range(50):
            reads = [asyncio.create_task(database.rows(QUICK)) for _ in range(9)]
            for round_, read in enumerate(reads[::2]):
                asyncio.get_running_loop().call_later(round_ / 5000, read.cancel)
            for read in reads[1::2]:
                assert await read == [(1, "a")]
            await asyncio.gather(*reads, return_exceptions=True)


async def test_a_slow_read_holds_up_no_quick_one_and_ends(sqlite_url: str) -> None:
    async with started(sqlite_url) as database:
        slow = asyncio.create_task(database.rows(COUNT, FOR_HOURS))
        for _ in range(20):
            assert await asyncio.gather(*(database.rows(QUICK) for _ in range(10))) == [[(1, "a")]] * 10
        assert not slow.done()
        assert {"reads", "slow reads"} <= {thread.name for thread in threading.enumerate()}
        # Known to be slow now: it does not even begin beside the quick ones, and with quick values it waits for no slow one.
        hops = database.hops
        async with asyncio.timeout(60):
            assert await database.read(COUNT, 10) == [{"MAX(i)": 10}]
        assert (database.hops, slow.done()) == (hops + 1, False)
        assert "tried reads" in {thread.name for thread in threading.enumerate()}
        slow.cancel()  # the thread is free again
        assert await database.rows(COUNT, FOR_A_MOMENT) == [(FOR_A_MOMENT,)]


async def test_a_stop_ends_what_is_read_and_leaves_no_thread_and_no_file_open(sqlite_url: str, file: Path) -> None:
    async with started(sqlite_url) as database:
        await GroupCommit(database).run(lambda: adding("a"))
        slow = [asyncio.create_task(database.rows(COUNT, FOR_HOURS)) for _ in range(3)]
        while "slow reads" not in {thread.name for thread in threading.enumerate()}:
            await database.rows(QUICK)
    for read in slow:
        with pytest.raises(DatabaseUnavailable):
            await read
    assert not [thread for thread in threading.enumerate() if "reads" in thread.name]
    opened = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            opened.add(str(descriptor.readlink()))
    assert not [name for name in opened if name.startswith(str(file))]
    assert not file.with_name(f"{file.name}-wal").exists()


async def test_no_read_holds_a_snapshot_after_it(sqlite_url: str) -> None:
    async with started(sqlite_url) as database:
        for name in ("a", "b"):
            await GroupCommit(database).run(lambda name=name: adding(name))  # type: ignore[misc]
            await database.rows(NAMES)
            with pytest.raises(sqlite3.OperationalError, match="UTF-8"):
                await database.rows("SELECT CAST(X'ff' AS TEXT) FROM users")
            [checkpoint] = await database.client.execute_query_dict("PRAGMA wal_checkpoint(TRUNCATE)")
            assert (checkpoint["busy"], checkpoint["log"]) == (0, 0)


async def test_nothing_is_written_by_a_read(sqlite_url: str) -> None:
    async with started(sqlite_url) as database:
        with pytest.raises(DatabaseUnavailable, match="not writable"):
            await database.rows(INSERT, "a", "a", "a")
        assert await database.rows(NAMES) == []


async def test_a_removed_or_replaced_file_is_unavailable_and_read_again_when_it_is_there(
    sqlite_url: str, file: Path, migrated_file: Path, tmp_path: Path
) -> None:
    async with started(sqlite_url) as database:
        await GroupCommit(database).run(lambda: adding("a"))
        assert await database.rows(NAMES) == [("a",)]
        away = tmp_path / "away.db"
        file.rename(away)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
                await database.rows(NAMES)
        away.rename(file)
        assert await database.rows(NAMES) == [("a",)]
        new = Path(shutil.copy(migrated_file, tmp_path / "new.db"))
        for end in ("-wal", "-shm"):  # of the old one
            file.with_name(file.name + end).unlink()
        os.replace(new, file)
        outcomes = await asyncio.gather(*(database.rows(NAMES) for _ in range(3)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable}
        assert await database.rows(NAMES) == []
        with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
            await database.ping()
        await database.ping()


async def test_a_slow_read_of_postgresql_holds_up_its_pipeline_for_half_a_second_at_most(
    migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = "SELECT 1 FROM pg_sleep(?)"
    async with started(migrated_postgresql) as database:
        slow = asyncio.create_task(database.rows(sleep, 60))
        quick = [asyncio.create_task(database.rows(QUICK)) for _ in range(10)]  # in the pipeline of the slow one
        assert await asyncio.gather(*quick) == [[(1, "a")]] * 10
        monkeypatch.setattr(postgresql_reader, "QUICK_SECONDS", 60)  # on a busy machine, a pipeline was read again
        hops = database.hops
        assert await asyncio.gather(*(database.rows(QUICK) for _ in range(10))) == [[(1, "a")]] * 10
        assert database.hops == hops + 1
        assert await database.rows(sleep, 0) == [(1,)]  # known to be slow: apart from the others
        assert not slow.done()
    with pytest.raises(DatabaseUnavailable):
        await slow


async def test_a_read_that_a_failed_one_kept_from_being_prepared_failed_every_pipeline_after_it(
    migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_reader, "QUICK_SECONDS", 60)  # on a busy machine, a pipeline was read again
    async with started(migrated_postgresql) as database:
        for _ in range(10):  # on each connection, before it prepares any; the second failure was not noticed
            with pytest.raises(psycopg.errors.DivisionByZero):
                await database.rows("SELECT 1 / 0")
        # The sixth time, psycopg prepares it, after the statement that fails.
        sent = [*[QUICK] * 5, "SELECT 1 / 0", QUICK]
        read = await asyncio.gather(*(database.rows(sql) for sql in sent), return_exceptions=True)
        assert [type(rows) for rows in read] == [*[list] * 5, psycopg.errors.DivisionByZero, list]
        hops = database.hops
        for _ in range(10):  # the connections take turns
            assert await database.rows(QUICK) == [(1, "a")]
        assert database.hops == hops + 10


async def test_a_stall_of_postgresql_set_the_first_read_of_its_pipeline_apart_for_a_minute(
    migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = (NAMES, "SELECT MAX(version) FROM api_keys")
    async with started(migrated_postgresql) as database:
        async with await psycopg.AsyncConnection.connect(of_psycopg(migrated_postgresql)) as other:
            await other.execute("LOCK TABLE users, api_keys IN ACCESS EXCLUSIVE MODE")
            stalled = [asyncio.create_task(database.rows(sql)) for sql in reads]
            while database.hops < 3:  # the pipeline, and each of them again
                await asyncio.wait(stalled, timeout=0.01)
            await asyncio.wait(stalled, timeout=QUICK_SECONDS)  # the stall goes on
            await other.rollback()
        await asyncio.gather(*stalled)
        monkeypatch.setattr(postgresql_reader, "QUICK_SECONDS", 60)  # on a busy machine, the pipeline was read again
        hops = database.hops
        await asyncio.gather(*(database.rows(sql) for sql in reads))
        assert database.hops == hops + 1


async def test_a_damaged_page_is_unavailable_and_read_again_once_it_is_mended(sqlite_url: str, file: Path) -> None:
    async with started(sqlite_url) as database:
        commits = GroupCommit(database)
        await asyncio.gather(*(commits.run(lambda n=n: adding(f"{n}" * 30)) for n in range(500)))  # type: ignore[misc]
    with sqlite3.connect(file) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'users'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    connection.close()
    async with started(sqlite_url) as database:
        with file.open("r+b") as disk:
            disk.seek((page - 1) * size)
            kept = disk.read(size)
            disk.seek((page - 1) * size)
            disk.write(b"\xff" * size)
            disk.flush()
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable, match="damaged"):
                    await database.rows(NAMES)
            assert await database.rows(QUICK) == [(1, "a")]
            disk.seek((page - 1) * size)
            disk.write(kept)
            disk.flush()
        assert len(await database.rows(NAMES)) == 500


@pytest.mark.slow
async def test_one_slow_read_after_another_let_the_log_of_writes_grow_without_end(sqlite_url: str, file: Path) -> None:
    few = "(SELECT id FROM users LIMIT 250)"
    slow = f"SELECT COUNT(*) FROM {few} a, {few} b, {few} c WHERE a.id + b.id + c.id <> ?"  # noqa: S608
    log = file.with_name(f"{file.name}-wal")

    async def read(database: Database) -> None:
        while True:
            await database.rows(slow, 0)

    async with started(sqlite_url) as database:
        commits = GroupCommit(database)
        await asyncio.gather(*(commits.run(lambda n=n: adding(f"{n}")) for n in range(250)))  # type: ignore[misc]
        readers = [asyncio.create_task(read(database)) for _ in range(3)]
        n, was_long = 0, False
        async with asyncio.timeout(300):
            while not (was_long and log.stat().st_size <= LONGEST_LOG):
                was_long |= log.stat().st_size > LONGEST_LOG
                n += 1
                await commits.run(lambda n=n: adding(f"{n}" + "x" * 20_000))  # type: ignore[misc]
        for reader in readers:
            reader.cancel()
