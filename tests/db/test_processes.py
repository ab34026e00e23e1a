"""Two processes on one database take turns."""

import asyncio
import sys
from pathlib import Path

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.models import User

UNITS = 60
PROGRAM = """
import asyncio, sys
from quart_async_api.db.connection import Database
from quart_async_api.db.models import User

async def unit(database):
    async with database.transaction():
        counter = await User.filter(name="counter").select_for_update().get()
        counter.email = str(int(counter.email) + 1)
        await counter.save()

async def main(url, units):
    database = Database(url)
    await database.start()
    try:
        await asyncio.gather(*(unit(database) for _ in range(units)))
    finally:
        await database.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.process
async def test_two_processes_that_read_and_then_write_never_find_it_locked(database: Database, backend: str) -> None:
    await User.create(name="counter", email="0", email_key="counter")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            f"{backend}{'&' if '?' in backend else '?'}timeout=60",  # there are fewer connections than units
            str(UNITS),
            cwd=Path(__file__).parents[2],
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in processes:
        _, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()[-2000:]
    assert (await User.get(name="counter")).email == str(2 * UNITS)
