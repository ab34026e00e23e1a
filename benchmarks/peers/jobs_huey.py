"""huey on SQLite, each write on the disk. Results are polled, so the function of a job rings for its caller."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import uvloop
from closed_loop import Doorbell, turns
from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCH_DATABASE"], fsync=True, journal_mode="wal", results=False)
doorbell = Doorbell()
submitting = ThreadPoolExecutor(8)


@huey.task()
def noop(name: str) -> None:
    doorbell.ring(name)


async def job() -> float:
    name = doorbell.new()
    await asyncio.get_running_loop().run_in_executor(submitting, noop, name)
    return await doorbell.rung(name)


async def main() -> None:
    huey.create_consumer(workers=4, initial_delay=0.001, max_delay=0.005, periodic=False).start()
    await turns(job)


uvloop.run(main())
