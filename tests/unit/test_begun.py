"""A coroutine that was begun keeps nothing that it has waited for: a stream waits for hours after its first wait."""

import asyncio
import gc
import weakref

from quart_async_api.http.begun import Begun


class Rows:
    """What a wait returns."""


async def test_the_result_of_the_first_wait_was_kept_until_the_end() -> None:
    loop = asyncio.get_running_loop()
    first, last = loop.create_future(), loop.create_future()
    waits = [first, last]

    async def work() -> str:
        await waits.pop(0)
        await waits[0]
        return "done"

    async def begun() -> str:
        return await Begun(work())

    task = asyncio.create_task(begun())
    await asyncio.sleep(0)
    rows = Rows()
    kept = weakref.ref(rows)
    first.set_result(rows)
    del first, rows
    await asyncio.sleep(0)
    gc.collect()
    assert kept() is None
    last.set_result(None)
    assert await task == "done"
