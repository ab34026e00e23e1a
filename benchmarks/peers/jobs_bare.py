"""The limit: an asyncio task that nothing remembers."""

import asyncio
from time import monotonic

import uvloop
from closed_loop import turns


async def noop() -> float:
    return monotonic()


async def job() -> float:
    return await asyncio.create_task(noop())


uvloop.run(turns(job))
