"""procrastinate on PostgreSQL, woken by LISTEN. It keeps no results, so the function of a job rings for its caller."""

import asyncio
import os

import uvloop
from closed_loop import Doorbell, turns
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRESQL"], min_size=10, max_size=20))
doorbell = Doorbell()


@app.task
async def noop(number: int) -> None:
    doorbell.ring(number)


async def job() -> float:
    number = doorbell.new()
    await noop.defer_async(number=number)
    return await doorbell.rung(number)


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = app.run_worker_async(concurrency=100, fetch_job_polling_interval=0.01, install_signal_handlers=False)
        worker = asyncio.create_task(working)
        await turns(job)
        worker.cancel()


uvloop.run(main())
