"""DBOS on SQLite: a durable workflow, started and awaited in its own process, its quickest way."""

import asyncio
import os
from time import monotonic

from closed_loop import turns
from dbos import DBOS

DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{os.environ['BENCH_DATABASE']}", "log_level": "ERROR"})


@DBOS.workflow()
async def noop() -> float:
    return monotonic()


async def job() -> float:
    handle = await DBOS.start_workflow_async(noop)
    return float(await handle.get_result())


async def main() -> None:
    DBOS.launch()
    await turns(job)


asyncio.run(main())
