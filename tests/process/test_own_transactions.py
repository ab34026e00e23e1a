"""A process that is killed in the middle of its transactions leaves each order with its job, and no job without its order."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.migration import upgrade
from quart_async_api.db.packages import OF_THE_SERVICE, packages
from tests.process.conftest import CHECKOUT
from tests.server_process import environment

pytestmark = pytest.mark.process

PROGRAM = """
import asyncio, itertools, os
from quart_async_api import Settings, TaskContext, create_app, open_service, submit, task, transaction
from tests.shop.models import Order

@task("pack")
async def pack(ctx: TaskContext, *, order: int) -> None: ...

async def place(worker):
    for number in itertools.count():
        async with transaction() as tx:
            order = await Order.create(customer=f"{os.getpid()} {worker} {number}")
            job = await submit(pack, {"order": order.id}, in_transaction=tx)
            order.job = job.id
            await order.save()
        print(job.id, flush=True)

async def main():
    async with open_service(create_app(tasks=[pack], models=["tests.shop.models"])):
        await asyncio.gather(*(place(worker) for worker in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_after_kill_9_each_order_has_its_job(tmp_path: Path, backend: str, kills: int) -> None:
    asyncio.run(upgrade(backend, (OF_THE_SERVICE, *packages(["tests.shop.models"]))))
    told: list[str] = []
    for kill in range(kills):
        with subprocess.Popen(
            (sys.executable, "-c", PROGRAM),
            cwd=tmp_path,
            env=environment(QAA_DATABASE_URL=backend, PYTHONPATH=str(CHECKOUT)),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            told += [process.stdout.readline().strip() for _ in range(10 + 3 * kill)]
            process.kill()

    async def left() -> list[tuple[str, str]]:
        database = Database(backend)
        await database.start()
        try:  # in one look: the last commit may still be under way
            rows = await database.rows("SELECT job, 'order' FROM shop_orders UNION ALL SELECT id, 'job' FROM jobs")
            return sorted((job, of) for job, of in rows)
        finally:
            await database.stop()

    found = asyncio.run(left())
    assert [job for job, of in found if of == "order"] == [job for job, of in found if of == "job"]
    assert set(told) <= {job for job, _ in found}
