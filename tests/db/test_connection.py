"""A database opens once, tells what is wrong with it, and keeps to its own tasks and transactions."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
import tortoise.context
from tortoise import Model, fields
from tortoise.exceptions import IntegrityError, TransactionManagementError
from tortoise.transactions import in_transaction

from quart_async_api.db.connection import Database
from quart_async_api.db.migration import upgrade
from quart_async_api.db.models import User
from quart_async_api.db.packages import Package
from quart_async_api.errors import DatabaseBehind, DatabaseUnusable

from .conftest import NewUrl, started


async def add(name: str) -> User:
    return await User.create(name=name, email=name, email_key=name)


async def names() -> list[str]:
    return [user.name for user in await User.all().order_by("id")]


async def test_it_is_initialised_once_however_much_it_is_used(database: Database) -> None:
    await database.start()
    await asyncio.gather(*(add(str(number)) for number in range(50)))
    assert len(await names()) == 50
    assert database.starts == 1


async def test_it_can_be_started_again_after_a_stop(database: Database) -> None:
    await add("a")
    await database.stop()
    await database.stop()
    await database.start()
    assert await names() == ["a"]
    assert database.starts == 2


async def test_two_databases_in_one_loop_keep_apart(backend: str, another_backend: str) -> None:
    async with started(backend) as one, started(another_backend) as other:
        meet = asyncio.Barrier(2)

        async def fill(database: Database, name: str) -> list[str]:
            with database.bind():
                async with in_transaction():
                    await add(name)
                    await meet.wait()
                return await asyncio.create_task(names())  # a task inherits the binding

        assert list(await asyncio.gather(fill(one, "one"), fill(other, "other"))) == [["one"], ["other"]]


@asynccontextmanager
async def with_orders(
    folder: Path, name: str, **columns: fields.Field[Any]
) -> AsyncIterator[tuple[Database, type[Model]]]:
    """An app's database with the table "orders", and its model."""
    meta, key = type("Meta", (), {"table": "orders"}), fields.IntField(primary_key=True)
    model = type("Order", (Model,), {"__module__": name, "Meta": meta, "id": key, **columns})
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__dict__["Order"] = model
    (file := folder / name).touch()
    async with started(f"sqlite://{file}", [Package(name, (name,), f"{name}.migrations")]) as database:
        await database.client.execute_script(f"CREATE TABLE orders (id INTEGER PRIMARY KEY, {', '.join(columns)})")
        yield database, model
    del sys.modules[name]


async def test_two_apps_in_one_process_may_have_a_table_of_one_name(tmp_path: Path) -> None:
    async with (
        with_orders(tmp_path, "one", article=fields.TextField()) as (one, first),
        with_orders(tmp_path, "two", price=fields.IntField(null=True), article=fields.TextField()) as (two, second),
    ):
        for _ in range(2):
            with one.bind():
                await first.create(article="tea")
            with two.bind():
                await second.create(article="tea", price=7)
        with two.bind():
            assert await second.all().values_list("article", "price") == [("tea", 7)] * 2


async def test_a_second_kind_of_database_in_one_process_is_refused(
    database_file: Path, migrated_postgresql: str
) -> None:
    async with started(f"sqlite://{database_file}") as database:
        for using in (Database(migrated_postgresql).start(), upgrade(migrated_postgresql)):
            with pytest.raises(
                DatabaseUnusable, match="has a sqlite database open, so its models cannot be used with postg"
            ):
                await using
        with database.bind():
            await add("a")
    async with started(migrated_postgresql) as other:
        with other.bind():
            assert await names() == []


def test_tortoise_still_has_the_private_variable_that_bind_sets() -> None:
    context = tortoise.context.TortoiseContext()
    token = tortoise.context._current_context.set(context)
    try:
        assert tortoise.context.get_current_context() is context
    finally:
        tortoise.context._current_context.reset(token)


async def add_and_fail(database: Database, *added: str) -> None:
    async with database.transaction():
        for name in added:
            await add(name)
        raise ZeroDivisionError


async def add_all(database: Database, *added: str) -> None:
    async with database.transaction():
        for name in added:
            await add(name)


async def test_a_transaction_is_all_or_nothing_and_nests(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        await add_and_fail(database, "a")
    async with database.transaction():
        await add("b")
        with pytest.raises(IntegrityError):
            await add_all(database, "c", "b")
        await add("d")
    assert await names() == ["b", "d"]


async def test_a_script_inside_a_transaction_does_not_commit_it(database: Database) -> None:
    async def script_and_fail() -> None:
        async with database.transaction() as transaction:
            await transaction.execute_script(
                "INSERT INTO users (name, email, email_key) VALUES ('a;', 'a', 'a'); UPDATE users SET name = 'b;';"
            )
            assert await names() == ["b;"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await script_and_fail()
    assert await names() == []


async def test_a_task_started_inside_a_transaction_cannot_join_a_later_one(database: Database) -> None:
    ended = asyncio.Event()

    async def late() -> None:
        await ended.wait()
        await add("late")

    async with database.transaction():
        task = asyncio.create_task(late())
    ended.set()
    with pytest.raises(TransactionManagementError, match="ended"):
        await task


async def test_a_unit_with_a_swallowed_failure_is_never_acknowledged_and_lost(database: Database) -> None:
    try:
        async with database.transaction():
            await add("a")
            with pytest.raises(IntegrityError):
                await add("a")
    except TransactionManagementError:
        assert await names() == []
    else:
        assert await names() == ["a"]


async def test_the_transaction_gives_psycopg_s_own_connection(database: Database) -> None:
    if database.url.dialect == "sqlite":
        pytest.skip("is about PostgreSQL")
    async with in_transaction() as transaction:
        await add("a")
        async with transaction.acquire_connection() as connection:
            assert isinstance(connection, psycopg.AsyncConnection)
            rows = await (await connection.execute("SELECT name FROM users")).fetchall()
    assert rows == [{"name": "a"}]


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def no_folder(folder: Path) -> str:
    return f"sqlite://{folder}/no/a.db"


def a_folder(folder: Path) -> str:
    return f"sqlite://{folder}"


def a_text(folder: Path) -> str:
    (folder / "text.db").write_text("no database " * 100)
    return f"sqlite://{folder}/text.db"


def refused(folder: Path) -> str:
    return "postgresql://u:secret@127.0.0.1:1/n"


def no_socket(folder: Path) -> str:
    return f"postgresql://u:secret@/n?host={folder}"


def unknown_name(folder: Path) -> str:
    return "postgresql://u:secret@no-such-host.invalid/n"


@pytest.mark.parametrize("url_in", [no_folder, a_folder, a_text, refused, no_socket, unknown_name])
async def test_an_unusable_database_is_told_so_at_start_in_one_line(
    url_in: Callable[[Path], str], tmp_path: Path
) -> None:
    url = url_in(tmp_path)
    before = everything_in(tmp_path)
    for attempt in (Database(url).start(), upgrade(url)):
        with pytest.raises(DatabaseUnusable) as caught:
            await attempt
        assert len(str(caught.value).splitlines()) == 1
        assert "secret" not in str(caught.value)
        threads = [thread.name for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]
        assert threads == []  # else it answers a loop that is closed: a traceback beside the line
    assert everything_in(tmp_path) == before


async def test_an_unknown_postgresql_database_or_user_is_told_so_at_start(new_url: NewUrl) -> None:
    url = new_url()
    if url.startswith("sqlite"):
        pytest.skip("is about PostgreSQL")
    for wrong, says in (
        (url.replace("/test_", "/no_"), "does not exist"),
        (url.replace("postgres@", "nobody@"), "nobody"),
    ):
        with pytest.raises(DatabaseUnusable, match=says):
            await Database(wrong).start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
async def test_a_file_that_can_only_be_read_is_told_so_at_start(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    await upgrade(f"sqlite://{file}")
    os.chmod(file, 0o400)
    os.chmod(tmp_path, 0o500)
    for attempt in (Database(f"sqlite://{file}").start(), upgrade(f"sqlite://{file}")):
        with pytest.raises(DatabaseUnusable):
            await attempt
    os.chmod(tmp_path, 0o700)


async def test_a_missing_file_wants_a_migration_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseBehind, match="run `quart-async-api migrate`"):
        await Database(f"sqlite://{tmp_path}/a.db").start()
    assert everything_in(tmp_path) == []


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/n?timeout=0.5"
        for attempt in (Database(url).start(), upgrade(url)):
            with pytest.raises(DatabaseUnusable, match=r"no answer within 0\.5 s"):
                await attempt


@pytest.mark.process
async def test_sqlite_alone_does_not_import_psycopg(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from quart_async_api.db.connection import Database\n"
        "from quart_async_api.db.migration import upgrade\n"
        "async def main(url):\n"
        "    await upgrade(url)\n"
        "    database = Database(url)\n"
        "    await database.start()\n"
        "    await database.stop()\n"
        "asyncio.run(main(sys.argv[1]))\n"
        "sys.exit('psycopg' in sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, f"sqlite://{tmp_path}/a.db")
    assert await process.wait() == 0
