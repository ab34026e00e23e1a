"""`db copy`: everything arrives, from SQLite to PostgreSQL and back, or nothing does."""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tortoise import Model
from tortoise.transactions import in_transaction

from quart_async_api.db import models
from quart_async_api.db.connection import Database
from quart_async_api.db.copy import copy
from quart_async_api.db.copy_ends import BATCH
from quart_async_api.db.migration import upgrade
from quart_async_api.db.packages import OF_THE_SERVICE, packages
from quart_async_api.db.tables import ANEW, OF_ONE_DATABASE, Column, Table, tables
from quart_async_api.db.url import parse
from quart_async_api.errors import DatabaseUnusable
from tests.postgresql import of_psycopg
from tests.shop.models import Line, Order, Tag

pytestmark = pytest.mark.process

ROWS = 3
TABLES = {table.name: table for table in tables()}


@pytest.fixture
def file_url(database_file: Path) -> str:
    return f"sqlite://{database_file}"


@pytest.fixture(params=["to postgresql", "to sqlite"])
def ends(request: pytest.FixtureRequest, file_url: str, migrated_postgresql: str) -> tuple[str, str]:
    """The URLs of the source and of the target."""
    both = file_url, migrated_postgresql
    return both if request.param == "to postgresql" else both[::-1]


def run(url: str, sql: str, rows: Iterable[tuple[Any, ...]] = ((),)) -> list[tuple[Any, ...]]:
    """Run a statement for each of `rows`, and return the rows of the last one."""
    connection: Any
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite://"))
    else:
        connection, sql = psycopg.connect(of_psycopg(url)), sql.replace("?", "%s")
    with closing(connection):
        cursor = connection.cursor()
        for row in rows:
            cursor.execute(sql, row)
        found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        connection.commit()
        return found


def contents(url: str, table: Table) -> list[tuple[Any, ...]]:
    return sorted(run(url, f'SELECT {table.names} FROM "{table.name}"'), key=repr)  # noqa: S608


def value_of(table: Table, column: Column, number: int) -> Any:
    """A value that the column may hold, another one for each number."""
    if (table.name, column.name) in ANEW:
        return 5  # a number of the source alone
    if column.is_nullable and number % 2:
        return None
    if str in column.form.kinds:
        return f"{number} 'é\t\n\\N 🦔{'x' * 2_000}"[: column.longest]
    if float in column.form.kinds:
        return 0.1 + number
    return (column.most or 0) - 10 + number if number == ROWS - 1 else 7 * (number + 1)


def row_of(table: Table, number: int) -> tuple[Any, ...]:
    return tuple(value_of(table, column, number) for column in table.columns)


def insert(url: str, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" for _ in table.columns)
    run(url, f'INSERT INTO "{table.name}" ({table.names}) VALUES ({marks})', rows)  # noqa: S608


def test_no_table_of_the_models_is_left_out() -> None:
    every = {
        each._meta.db_table for each in vars(models).values() if isinstance(each, type) and issubclass(each, Model)
    }
    assert every - {None, "", "model"} - OF_ONE_DATABASE == set(TABLES)


def test_every_value_of_every_table_arrives(ends: tuple[str, str]) -> None:
    source, target = ends
    for table in TABLES.values():
        insert(source, table, (row_of(table, number) for number in range(ROWS)))
    lines: list[str] = []
    copied = copy(source, target, lines.append)
    for table in TABLES.values():
        assert copied[table.name].rows == ROWS
        assert contents(target, table) == list(map(table.carries(parse(target).dialect), contents(source, table)))
    assert f"users: {ROWS} rows, checked" in lines
    assert set(run(target, "SELECT txid FROM job_events")) == {(0,)}


def test_ids_go_on_after_the_last_one_also_if_its_row_was_deleted(ends: tuple[str, str]) -> None:
    source, target = ends
    add = "INSERT INTO users (name, email, email_key) VALUES (?, ?, ?) RETURNING id"
    for number in range(3):
        run(source, add, [("a", f"{number}@example.com", f"{number}@example.com")])
    run(source, "DELETE FROM users WHERE id = 3")
    copy(source, target, lambda line: None)
    assert run(target, add, [("a", "4@example.com", "4@example.com")]) == [(4,)]
    assert run(
        target, "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES ('', 's', '') RETURNING id"
    ) == [(1,)]


def test_the_secret_that_migrate_makes_is_replaced_and_other_rows_stop_the_copy(ends: tuple[str, str]) -> None:
    source, target = ends
    add = "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES ('', ?, '')"
    run(source, add, [("of the source",)])
    run(target, add, [("of migrate",)])
    copy(source, target, lambda line: None)
    assert run(target, "SELECT secret FROM webhook_secrets") == [("of the source",)]
    run(target, "INSERT INTO job_turns (urgency, turn) VALUES (0, 1)")
    with pytest.raises(DatabaseUnusable, match="is not empty: job_turns has 1 rows; copy into a new database"):
        copy(source, target, lambda line: None)
    assert run(target, "SELECT secret FROM webhook_secrets") == [("of the source",)]


def test_values_that_postgresql_cannot_hold_are_named_and_nothing_is_written(
    file_url: str, migrated_postgresql: str
) -> None:
    user = "INSERT INTO users (id, name, email, email_key) VALUES (?, CAST(? AS TEXT), ?, ?)"
    run(
        file_url,
        user,
        [
            (1, "good", "1", "1"),
            (2, "a\0b", "2", "2"),
            (3, b"\xed\xa0\x80", "3", "3"),  # a lone surrogate
            (4, "x" * 51, "4", "4"),
        ],
    )
    run(file_url, "INSERT INTO job_turns (urgency, turn) VALUES (40000, 'x')")
    lines: list[str] = []
    with pytest.raises(
        DatabaseUnusable, match=r"5 values of the source do not fit in postgresql:.*nothing was written"
    ):
        copy(file_url, migrated_postgresql, lines.append)
    assert lines == [
        "job_turns, row 40000: urgency is out of range (-32768 to 32767)",
        "job_turns, row 40000: turn is of the type str",
        "users, row 2: name has the character NUL",
        "users, row 3: name is not valid UTF-8",
        "users, row 4: name has 51 characters, and at most 50 are allowed",
    ]
    assert run(migrated_postgresql, "SELECT COUNT(*) FROM users") == [(0,)]


def test_what_is_written_meanwhile_is_in_the_copy_as_a_whole_or_not_at_all(
    ends: tuple[str, str],
) -> None:
    source, target = ends
    turns = TABLES["job_usage"]
    insert(source, turns, ((f"{number}", 0, 0, 0) for number in range(BATCH + 1)))

    def say(line: str) -> None:
        if line.startswith("job_usage"):
            run(source, "INSERT INTO users (name, email, email_key) VALUES ('a', 'b', 'c')")
            run(source, "UPDATE job_usage SET jobs = 1")

    copied = copy(source, target, say)
    assert copied["job_usage"].rows == BATCH + 1
    assert copied["users"].rows == 0
    assert run(target, "SELECT SUM(jobs) FROM job_usage") == [(0,)]
    assert run(source, "SELECT COUNT(*) FROM users") == [(1,)]


def test_a_copy_that_fails_leaves_the_target_empty(ends: tuple[str, str]) -> None:
    source, target = ends
    run(source, "INSERT INTO users (name, email, email_key) VALUES ('a', 'b', 'c')")

    class Stopped(Exception): ...

    def say(line: str) -> None:
        if line.startswith("users"):
            raise Stopped

    with pytest.raises(Stopped):
        copy(source, target, say)
    assert run(target, "SELECT COUNT(*) FROM users") == [(0,)]
    assert copy(source, target, lambda line: None)["users"].rows == 1


def test_a_copy_that_differs_is_not_committed(ends: tuple[str, str]) -> None:
    source, target = ends
    run(source, "INSERT INTO users (name, email, email_key) VALUES ('a', 'b', 'c')")
    if target.startswith("sqlite"):
        run(target, "CREATE TRIGGER odd AFTER INSERT ON users BEGIN UPDATE users SET name = 'z'; END")
    else:
        run(
            target,
            "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.name := 'z'; RETURN NEW; END$$",
        )
        run(target, "CREATE TRIGGER odd BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION odd()")
    with pytest.raises(DatabaseUnusable, match=r"users differs in .*nothing was written"):
        copy(source, target, lambda line: None)
    assert run(target, "SELECT COUNT(*) FROM users") == [(0,)]


SHOP = (OF_THE_SERVICE, *packages(["tests.shop.models"]))


async def fill(url: str) -> None:
    database = Database(url, SHOP)
    await database.start()
    with database.bind():
        order = await Order.create(
            customer="ada", paid=True, total=Decimal("100.50"), wishes={"b": 1.0, "a": [10**5, "é"]}
        )
        await Order.create(customer="bea", wishes=1)  # which SQLite keeps as a number
        await order.tags.add(await Tag.create(name="new"))
        last = await Line.create(order=order, article="tea", picture=b"\0\xff", day=date(2026, 1, 2), weight=3)
        first = await Line.create(order=order, article="milk", above=last)
        last.above = first  # so that no order of the rows satisfies each key
        await last.save()
    await database.stop()


async def read(url: str) -> list[object]:
    database = Database(url, SHOP)
    await database.start()
    try:
        with database.bind():
            lines = await Line.all().order_by("article").values()
            tags = [await order.tags.all().values_list("name", flat=True) for order in await Order.all().order_by("id")]
            return [*await Order.all().order_by("id").values(), *lines, tags, await next_id()]
    finally:
        await database.stop()


async def next_id() -> int:
    async with in_transaction() as transaction:
        order = await Order.create(customer="next")
        await transaction.rollback()
    return int(order.id)


def test_the_tables_of_an_app_are_carried_with_values_of_every_type(ends: tuple[str, str]) -> None:
    source, target = ends
    for url in ends:
        asyncio.run(upgrade(url, SHOP))
    asyncio.run(fill(source))
    with pytest.raises(DatabaseUnusable, match="has tables of tests_shop: name the app with these models by QAA_APP"):
        copy(source, target, lambda line: None)
    lines: list[str] = []
    copied = copy(source, target, lines.append, SHOP)
    assert {name: copied[name].rows for name in ("shop_orders", "shop_lines", "shop tags", "shop_order_tags")} == {
        "shop_orders": 2,
        "shop_lines": 2,
        "shop tags": 1,
        "shop_order_tags": 1,
    }
    assert asyncio.run(read(target)) == asyncio.run(read(source))
    if not target.startswith("sqlite"):
        assert run(target, "SELECT COUNT(*) FROM pg_constraint WHERE condeferrable") == [(0,)]


def test_values_of_an_app_that_do_not_fit_are_named(file_url: str, migrated_postgresql: str) -> None:
    for url in (file_url, migrated_postgresql):
        asyncio.run(upgrade(url, SHOP))
    add = "INSERT INTO shop_orders (customer, paid, total, at, wishes) VALUES (?, 0, ?, ?, ?)"
    run(file_url, add, [("ada", "x", "yesterday", "{"), ("bea", "1234567890.00", "2026-01-02 03:04:05+00:00", "1")])
    lines: list[str] = []
    with pytest.raises(DatabaseUnusable, match="do not fit"):
        copy(file_url, migrated_postgresql, lines.append, SHOP)
    assert lines == [
        "shop_orders, row 1: total cannot be read: 'x' is not a number",
        "shop_orders, row 1: wishes cannot be read: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "shop_orders, row 1: at cannot be read: Invalid isoformat string: 'yesterday'",
    ]
    run(file_url, "DELETE FROM shop_orders WHERE id = 1")
    with pytest.raises(
        DatabaseUnusable, match=r"a database refuses a row: numeric field overflow.*nothing was written"
    ):
        copy(file_url, migrated_postgresql, lines.append, SHOP)
