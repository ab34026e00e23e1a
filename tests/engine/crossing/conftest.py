"""Processes that change the same rows of PostgreSQL at once, with no lock that all of them take: what each relies on holds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from quart_async_api.errors import ServiceError
from tests.postgresql import of_psycopg

from ..conftest import Make, Service, until

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Connect = Callable[[], Coroutine[Any, Any, Connection]]


@pytest.fixture
def backend(migrated_postgresql: str) -> str:
    return migrated_postgresql


@pytest.fixture
async def connect(backend: str) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def connect() -> Connection:
            return await stack.enter_async_context(await psycopg.AsyncConnection.connect(of_psycopg(backend)))

        yield connect


async def waits_for(service: Service, sql: str) -> None:
    """Wait until a statement of this form waits for a lock."""

    async def waits() -> bool:
        found = await service.database.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE ?",
            f"{sql}%",
        )
        return bool(found)

    await until(waits)


async def fleet_of(make: Make, number: int = 3, **settings: Any) -> list[Service]:
    return [await make(engine=False, **settings) for _ in range(number)]


async def refusals(calls: Sequence[Coroutine[Any, Any, object]]) -> Counter[str]:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    strange = [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, ServiceError)]
    assert strange == []
    return Counter(type(each).__name__ if isinstance(each, ServiceError) else "done" for each in outcomes)
