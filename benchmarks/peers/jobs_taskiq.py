"""taskiq on Redis, by its quickest broker. Its results are polled, so the function of a job rings for its caller instead."""

import asyncio
import os

import uvloop
from closed_loop import Doorbell, turns
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS"])
doorbell = Doorbell()


@broker.task
async def noop(number: int) -> None:
    doorbell.ring(number)


async def job() -> float:
    number = doorbell.new()
    await noop.kiq(number)
    return await doorbell.rung(number)


async def main() -> None:
    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker, max_async_tasks=100))
    await turns(job)
    worker.cancel()


uvloop.run(main())
