"""saq on Redis, or on PostgreSQL if BENCH_POSTGRESQL is set.

To wait for a result takes it a second or so, so the function of a job rings for its caller instead.
"""

import os
from typing import Any

import uvloop
from closed_loop import Doorbell, turns
from saq import Queue, Worker

queue = Queue.from_url(os.environ.get("BENCH_POSTGRESQL") or os.environ["BENCH_REDIS"])
doorbell = Doorbell()


async def noop(ctx: dict[str, Any], *, name: str) -> None:
    doorbell.ring(name)


async def job() -> float:
    name = doorbell.new()
    await queue.enqueue("noop", name=name)
    return await doorbell.rung(name)


async def main() -> None:
    await queue.connect()
    await turns(job, Worker(queue, functions=[noop], concurrency=100).start())


uvloop.run(main())
