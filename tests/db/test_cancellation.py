"""A cancelled unit is whole or not there, and takes nothing with it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from tortoise.transactions import in_transaction

from quart_async_api.db.connection import Database
from quart_async_api.db.models import User

WORKERS = 16


def user(name: str, key: str) -> User:
    return User(name=name, email="x", email_key=key)


async def in_one_transaction(number: int) -> None:
    async with in_transaction():
        await user(str(number), f"{number}a").save()
        await user(str(number), f"{number}b").save()


async def in_a_savepoint(number: int) -> None:
    async with in_transaction():
        await user(str(number), f"{number}a").save()
        async with in_transaction():
            await user(str(number), f"{number}b").save()


async def at_once(number: int) -> None:
    await User.bulk_create([user(str(number), f"{number}a"), user(str(number), f"{number}b")])


async def read_then_update(number: int) -> None:
    async with in_transaction():
        await User.filter(name="counter").select_for_update().get()
        await user(str(number), f"{number}a").save()
        await User.filter(name="counter").update(email=str(number))
        await user(str(number), f"{number}b").save()


async def one_statement_each(number: int) -> None:
    await User.create(name="single", email="x", email_key=f"{number}a")
    await User.filter(email_key=f"{number}a").update(email="y")
    await User.get(email_key=f"{number}a")


@pytest.mark.parametrize("units", [100, pytest.param(400, marks=pytest.mark.soak)])
@pytest.mark.parametrize("unit", [in_one_transaction, in_a_savepoint, at_once, read_then_update, one_statement_each])
async def test_cancelled_units_are_whole_and_leave_the_database_alive(
    database: Database, unit: Callable[[int], Awaitable[None]], units: int
) -> None:
    await user("counter", "counter").save()
    dice = random.Random(unit.__name__)  # noqa: S311
    numbers = count()
    ended = {"cancelled": 0, "done": 0}
    loop = asyncio.get_running_loop()
    seconds = 0.01  # until a cancellation, on average; follows the machine, so that about half of the units end

    async def one_after_another() -> None:
        nonlocal seconds
        while (number := next(numbers)) < units:
            task = asyncio.ensure_future(unit(number))
            # Twice: what cleans up after the first cancellation may meet the second.
            for _ in range(2):
                loop.call_later(dice.expovariate(1 / seconds), task.cancel)
            await asyncio.wait((task,))
            if task.cancelled():
                ended["cancelled"] += 1
                seconds *= 1.1
            else:
                task.result()
                ended["done"] += 1
                seconds /= 1.1

    await asyncio.gather(*(one_after_another() for _ in range(WORKERS)))
    assert min(ended.values()) > units / 20, ended

    async with asyncio.timeout(60):
        await database.ping()
        await asyncio.gather(*(in_one_transaction(units + n) for n in range(WORKERS)))
    rows: dict[str, int] = {}
    for name in await User.exclude(name__in=("counter", "single")).values_list("name", flat=True):
        rows[str(name)] = rows.get(str(name), 0) + 1
    assert set(rows.values()) == {2}
    await assert_nothing_is_held(database)


async def assert_nothing_is_held(database: Database) -> None:
    client = database.client
    if client.capabilities.dialect == "sqlite":
        assert not client._lock.locked()  # type: ignore[attr-defined]
        assert not client._connection.in_transaction
    else:
        stats = client._pool.get_stats()
        assert stats["pool_available"] == stats["pool_size"] <= 10
        assert stats["requests_waiting"] == 0
        _, rows = await client.execute_query(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert rows[0]["n"] == 0
