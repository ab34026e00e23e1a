"""taskiq on Redis, by its quickest broker. Its results are polled, so the function of a job rings for its caller instead."""

import os

import uvloop
from closed_loop import Doorbell, turns
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS"])
doorbell = Doorbell()


@broker.task
async def noop(name: str) -> None:
    doorbell.ring(name)


async def job() -> float:
    name = doorbell.new()
    await noop.kiq(name)
    return await doorbell.rung(name)


async def main() -> None:
    await broker.startup()
    await turns(job, run_receiver_task(broker, max_async_tasks=100))


uvloop.run(main())
