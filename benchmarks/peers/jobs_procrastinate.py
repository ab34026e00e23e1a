"""procrastinate on PostgreSQL, woken by LISTEN. It keeps no results, so the function of a job rings for its caller.

BENCH_POLL: seconds between looks for jobs whose wake-up was lost.
"""

import os

import uvloop
from closed_loop import Doorbell, turns
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRESQL"], min_size=10, max_size=20))
doorbell = Doorbell()


@app.task
async def noop(name: str) -> None:
    doorbell.ring(name)


async def job() -> float:
    name = doorbell.new()
    await noop.defer_async(name=name)
    return await doorbell.rung(name)


async def main() -> None:
    async with app.open_async():
        if not await app.check_connection_async():  # whether its tables are there
            await app.schema_manager.apply_schema_async()
        poll = float(os.environ.get("BENCH_POLL", "0.01"))
        working = app.run_worker_async(concurrency=100, fetch_job_polling_interval=poll, install_signal_handlers=False)
        await turns(job, working)


uvloop.run(main())
