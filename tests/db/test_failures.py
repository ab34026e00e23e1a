"""A database that cannot be used right now is told from a fault of ours, writes nothing by halves, and comes back."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from tortoise.exceptions import OperationalError

from quart_async_api.db.connection import Database
from quart_async_api.db.failures import as_unavailable
from quart_async_api.db.models import User
from quart_async_api.errors import DatabaseUnavailable
from tests.postgresql import MIGRATED, PostgreSQL

from .conftest import started


async def add(name: str) -> None:
    await User.create(name=name, email=name, email_key=name)


async def add_two(database: Database, name: str) -> None:
    async with database.transaction():
        await add(name + "1")
        await add(name + "2")


def long(name: str) -> User:
    return User(name=name, email=name, email_key=name.ljust(300))


async def refused(coroutine: object) -> DatabaseUnavailable:
    with pytest.raises(Exception, match=r".") as caught:
        await coroutine  # type: ignore[misc]
    unavailable = as_unavailable(caught.value)
    assert unavailable is not None, repr(caught.value)
    assert len(str(unavailable).splitlines()) == 1
    return unavailable


@contextmanager
def locked_sqlite(database: Database) -> Iterator[None]:
    connection = sqlite3.connect(str(database.url.file), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def locked_postgresql(database: Database) -> Iterator[None]:
    with psycopg.connect(database.location) as connection:
        connection.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        yield


LOCKS: dict[str, Callable[[Database], AbstractContextManager[None]]] = {
    "sqlite": locked_sqlite,
    "postgresql": locked_postgresql,
}


@pytest.mark.slow
async def test_a_locked_database_is_unavailable_until_the_lock_goes(backend: str) -> None:
    async with started(f"{backend}{'&' if '?' in backend else '?'}timeout=1") as database:
        with database.bind():
            with LOCKS[database.url.dialect](database):
                told, *_ = await asyncio.gather(
                    refused(add("a")),
                    refused(add_two(database, "b")),
                    refused(User.bulk_create([User(name="c", email="c", email_key="c")])),
                )
                assert "lock" in str(told)
                await database.ping()
            await add_two(database, "d")
            assert await User.all().count() == 2


async def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(database_file: Path) -> None:
    async with started(f"sqlite://{database_file}") as database:
        [pages] = await database.client.execute_query_dict("PRAGMA page_count")
        await database.client.execute_query(f"PRAGMA max_page_count = {pages['page_count'] + 8}")
        with database.bind():
            whole = 0

            async def fill() -> None:
                nonlocal whole
                while True:
                    async with database.transaction():
                        await long(f"{whole}a").save()
                        await long(f"{whole}b").save()
                    whole += 1

            assert "full" in str(await refused(fill()))
            assert await User.all().count() == 2 * whole > 0
            await refused(User.bulk_create([long(f"c{number}") for number in range(99)]))
            assert await User.all().count() == 2 * whole
            await database.client.execute_query("PRAGMA max_page_count = 1000000")
            await add_two(database, "d")


async def test_a_removed_file_takes_no_more_writes_and_is_opened_again_when_it_is_back(
    database_file: Path, tmp_path: Path
) -> None:
    file = database_file
    async with started(f"sqlite://{file}") as database:
        with database.bind():
            await add("a")
            file.rename(tmp_path / "b.db")
            for _ in range(2):
                await refused(add("lost"))
                await refused(add_two(database, "lost"))
                await refused(User.all().count())
                with pytest.raises(DatabaseUnavailable):
                    await database.ping()
            assert not file.exists()
            (tmp_path / "b.db").rename(file)
            await add("c")
            assert [user.name for user in await User.all().order_by("id")] == ["a", "c"]


async def test_a_file_removed_inside_a_transaction_is_noticed_before_the_commit_counts(database_file: Path) -> None:

    async def lose(database: Database) -> None:
        async with database.transaction():
            await add("lost")
            database_file.unlink()

    async with started(f"sqlite://{database_file}") as database:
        with database.bind():
            assert "removed" in str(await refused(lose(database)))


async def test_a_restarted_postgresql_is_used_again_without_a_restart_of_ours(
    own_postgresql: PostgreSQL,
) -> None:
    with own_postgresql.database(MIGRATED) as url:
        async with started(f"{url}&timeout=1") as database:
            with database.bind():
                await asyncio.gather(*(add(str(number)) for number in range(20)))
                await asyncio.to_thread(own_postgresql.kill)
                await refused(add("lost"))
                with pytest.raises(DatabaseUnavailable):
                    await database.ping()
                await asyncio.to_thread(own_postgresql.start)
                await add_two(database, "back")
                assert await User.all().count() == 22


async def test_connections_that_the_server_cut_are_replaced(postgresql: PostgreSQL) -> None:
    with postgresql.database(MIGRATED) as url:
        async with started(url) as database:
            with database.bind():

                async def cut_off() -> None:
                    async with database.transaction() as transaction:
                        await add("lost")
                        [row] = await transaction.execute_query_dict("SELECT pg_backend_pid() AS pid")
                        with postgresql.connect() as admin:
                            admin.execute("SELECT pg_terminate_backend(%s)", (row["pid"],))
                        await add("lost too")

                for _ in range(12):  # more than the pool holds
                    await refused(cut_off())
                await add_two(database, "a")
                assert await User.all().count() == 2


async def test_a_pool_that_is_all_in_use_is_unavailable_and_comes_back(postgresql: PostgreSQL) -> None:
    with postgresql.database(MIGRATED) as url:
        async with started(f"{url}&timeout=1") as database:
            inside = asyncio.Semaphore(0)

            async def occupy() -> None:
                async with database.transaction() as transaction:
                    inside.release()
                    await transaction.execute_query("SELECT pg_sleep(60)")  # an idle session would be ended

            tasks = [asyncio.create_task(occupy()) for _ in range(10)]
            for _ in tasks:
                await inside.acquire()
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await database.ping()


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OperationalError("x"), sqlite3.IntegrityError("x")])
def test_a_fault_of_ours_is_not_excused(error: Exception) -> None:
    assert as_unavailable(error) is None
    assert as_unavailable(OperationalError(error)) is None


async def test_bad_sql_is_a_fault_of_ours(database: Database) -> None:
    with pytest.raises(OperationalError) as caught:
        await database.client.execute_query("SELECT nonsense FROM nowhere")
    assert as_unavailable(caught.value) is None
