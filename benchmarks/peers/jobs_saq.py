"""saq on Redis. To wait for a result takes it a second or so, so the function of a job rings for its caller instead."""

import asyncio
import os
from typing import Any

import uvloop
from closed_loop import Doorbell, turns
from saq import Queue, Worker

queue = Queue.from_url(os.environ["BENCH_REDIS"])
doorbell = Doorbell()


async def noop(ctx: dict[str, Any], *, number: int) -> None:
    doorbell.ring(number)


async def job() -> float:
    number = doorbell.new()
    await queue.enqueue("noop", number=number)
    return await doorbell.rung(number)


async def main() -> None:
    await queue.connect()
    worker = asyncio.create_task(Worker(queue, functions=[noop], concurrency=100).start())
    await turns(job)
    worker.cancel()


uvloop.run(main())
