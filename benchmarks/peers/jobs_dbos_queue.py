"""DBOS on PostgreSQL: a durable workflow in a queue that all processes serve.

To wait for a result polls each second, so the workflow rings for its caller instead. BENCH_POLL: seconds between the looks of a
process for queued workflows, which nothing wakes it for.
"""

import asyncio
import os

from closed_loop import ROLE, Doorbell, turns
from dbos import DBOS

DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["BENCH_POSTGRESQL"],
        "executor_id": str(os.getpid()),
        "log_level": "ERROR",
    }
)
doorbell = Doorbell()


@DBOS.workflow()
async def noop(name: str) -> None:
    doorbell.ring(name)


async def main() -> None:
    if ROLE == "caller":
        DBOS.listen_queues([])
    DBOS.launch()
    poll = float(os.environ["BENCH_POLL"])
    queue = await DBOS.register_queue_async("bench", worker_concurrency=100, polling_interval_sec=poll)

    async def job() -> float:
        name = doorbell.new()
        await queue.enqueue_async(noop, name)
        return await doorbell.rung(name)

    await turns(job)


asyncio.run(main())
