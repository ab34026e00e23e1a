"""The courier's prices, behind a pool of connections that is opened once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files

import aiosqlite

_CONNECTIONS = 2
# Read now: later it would hold up the loop.
_PRICES = (files(__package__) / "postage.sql").read_text("utf-8")
_CHEAPEST = "SELECT MIN(cents) FROM postage WHERE country = ? AND grams >= ?"


class Postage:
    """A connection answers one query at a time; a caller takes one that is free."""

    def __init__(self) -> None:
        self._free: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()

    def add(self, connection: aiosqlite.Connection) -> None:
        self._free.put_nowait(connection)

    async def cents(self, country: str, grams: int) -> int | None:
        """The price of a parcel, or None if the courier does not take it there."""
        connection = await self._free.get()
        try:
            async with connection.execute(_CHEAPEST, (country, grams)) as found:
                row = await found.fetchone()
        finally:
            self.add(connection)
        return None if row is None else row[0]


@asynccontextmanager
async def open_postage() -> AsyncIterator[Postage]:
    pool = Postage()
    async with AsyncExitStack() as stack:
        for _ in range(_CONNECTIONS):
            connection = await stack.enter_async_context(aiosqlite.connect(":memory:"))
            await connection.executescript(_PRICES)
            pool.add(connection)
        yield pool
