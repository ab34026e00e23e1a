"""`submit` and `transaction`: a job from an app's own code exists if and only if the rows beside it do."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from quart import Blueprint
from tortoise.exceptions import TransactionManagementError
from tortoise.transactions import in_transaction

from quart_async_api import (
    App,
    DatabaseUnavailable,
    InvalidInput,
    KeyReused,
    QueueFull,
    Scope,
    Settings,
    TaskContext,
    create_app,
    delivers,
    open_service,
    submit,
    task,
    transaction,
)
from quart_async_api.db.migration import upgrade
from quart_async_api.db.packages import OF_THE_SERVICE, packages
from quart_async_api.settings import JobsEngine
from tests.postgresql import ON_BOTH
from tests.shop.models import Order

MODELS = "tests.shop.models"
blueprint = Blueprint("orders", __name__)


@task("pack")
async def pack(ctx: TaskContext, *, order: int) -> str:
    """Pack an order, which is there."""
    found = await Order.get(id=order)
    return f"{found.customer} {found.job == ctx.job_id}"


@task("order-again")
async def order_again(ctx: TaskContext, *, customer: str) -> str:
    """Place an order and have it packed."""
    return await placed(customer)


@task("log-inside")
async def log_inside(ctx: TaskContext) -> None:
    """Write to the log of the job where that would wait for itself. Progress was refused after a quiet moment only."""
    for opened_by in (transaction, in_transaction):
        await ctx.progress(0, 1)
        async with opened_by():
            for report in (ctx.log("never"), ctx.progress(1, 1)):
                with pytest.raises(RuntimeError, match="cannot be inside a transaction"):
                    await report


async def placed(customer: str, **options: Any) -> str:
    async with transaction() as tx:
        order = await Order.create(customer=customer)
        job = await submit(pack, {"order": order.id}, in_transaction=tx, **options)
        order.job = job.id
        await order.save()
    return job.id


@blueprint.post("/orders/<customer>")
async def place(customer: str) -> dict[str, str]:
    return {"job": await placed(customer)}


@blueprint.get("/log-inside")
@delivers(log_inside)
async def waited_log_inside(result: None) -> None:
    """Waited for, it went through."""


@pytest.fixture(params=[*ON_BOTH, pytest.param("distributed", marks=pytest.mark.process)])
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Those of each engine, on a database that has the tables of the shop."""
    if request.param == "sqlite":
        yield Settings(database_url=f"sqlite://{request.getfixturevalue('database_file')}")
    elif request.param == "postgresql":
        yield Settings(database_url=request.getfixturevalue("migrated_postgresql"))
    else:
        url = request.getfixturevalue("distributed_postgresql")
        yield Settings(database_url=url, jobs_engine=JobsEngine.DISTRIBUTED)


def shop(settings: Settings) -> App:
    tasks = [pack, order_again, log_inside]
    return create_app(settings, tutorial=False, tasks=tasks, models=[MODELS], blueprints=[blueprint])


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[App]:
    await upgrade(settings.database_url, (OF_THE_SERVICE, *packages([MODELS])))
    app = shop(settings)
    async with app.test_app():
        with app.service.database.bind():
            yield app


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[App]:
    await upgrade(settings.database_url, (OF_THE_SERVICE, *packages([MODELS])))
    async with open_service(shop(settings)) as app:
        yield app


async def counted(app: App) -> dict[str, int]:
    """The rows of the shop and of all that a job writes."""
    tables = ["shop_orders", "jobs", "job_usage", "job_events", "idempotency_keys", "callback_deliveries"]
    if app.service.settings.jobs_engine is JobsEngine.DISTRIBUTED:
        tables.append("procrastinate_jobs")
    rows = {table: await app.service.database.rows(f"SELECT COUNT(*) FROM {table}") for table in tables}  # noqa: S608
    return {table: found[0][0] for table, found in rows.items() if found[0][0]}


async def test_a_job_of_a_route_a_task_and_a_script_is_there_with_its_order_and_runs(settings: Settings) -> None:
    async with started(settings) as app:
        key, secret = await app.service.keys.create("shop", [Scope.WRITE])
        client, headers = app.test_client(), {"Authorization": f"Bearer {secret}"}
        placed_by_route = (await (await client.post("/orders/ada", headers=headers)).get_json())["job"]
        again = {"task": "order-again", "args": {"customer": "bea"}}
        patient = headers | {"Prefer": "respond-async, wait=30"}
        by_task = await (await client.post("/jobs", json=again, headers=patient)).get_json()
        async with open_service(shop(settings)):
            by_script = await placed("cid")
        wait = app.service.submissions.wait
        ended = [await wait(job, 15) for job in (placed_by_route, by_task["result"], by_script)]
        assert [job.result for job in ended] == ['"ada True"', '"bea True"', '"cid True"']
        assert [job.owner for job in ended] == [key.id, key.id, None]
        used = await app.service.database.rows("SELECT owner, unfinished, jobs FROM job_usage ORDER BY owner")
        assert used == [("", 0, 1), (key.id, 0, 3)]


async def fail() -> None:
    raise ZeroDivisionError


async def ordered(customer: str, *more: Callable[[], Awaitable[object]], jobs: int = 1) -> list[str]:
    """Place an order with so many jobs, and do more in the same transaction."""
    async with transaction() as tx:
        await Order.create(customer=customer)
        submitted = [
            await submit(
                pack,
                {"order": number},
                callback_url="https://example.com/",
                idempotency_key=f"{customer} {number}",
                in_transaction=tx,
            )
            for number in range(jobs)
        ]
        for each in more:
            await each()
    return [job.id for job in submitted]


def waiting(settings: Settings, seconds: int) -> Settings:
    """Return these settings for a database that others wait for so long."""
    url = settings.database_url
    return settings.model_copy(update={"database_url": f"{url}{'&' if '?' in url else '?'}timeout={seconds}"})


async def test_what_is_rolled_back_leaves_nothing(settings: Settings) -> None:
    told: list[str] = []
    limited = settings.model_copy(update={"job_queue_limit": 2})
    async with opened(waiting(limited, 4)) as app:
        app.service.dispatch.committed = lambda job: told.append(job.id)  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await ordered("ada", fail)
        with pytest.raises(QueueFull):
            await ordered("ada", jobs=3)
        with pytest.raises(DatabaseUnavailable, match=r"open for 2 s, which is the limit: it was rolled back"):
            await ordered("ada", asyncio.Event().wait)
        assert (await counted(app), told) == ({}, [])
        async with transaction() as outer:
            kept = await submit(pack, {"order": 1}, in_transaction=outer)
            with pytest.raises(ZeroDivisionError):
                await ordered("ada", fail)
            inner = await ordered("bea")
            assert told == []
        assert told == [kept.id, *inner]
        rows = {"shop_orders": 1, "jobs": 2, "job_usage": 1, "idempotency_keys": 1}
        tickets = {"procrastinate_jobs": 2} if settings.jobs_engine is JobsEngine.DISTRIBUTED else {}
        assert await counted(app) == rows | tickets


async def test_a_task_that_outlives_the_transaction_it_was_started_in_is_refused_and_writes_nothing(
    settings: Settings,
) -> None:
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: Order.all().count(),
        lambda: submit(pack, {"order": 1}),
        lambda: placed("late"),
        lambda: in_transaction().__aenter__(),
        lambda: Order.all().count(),  # as the first
    ]
    ended = asyncio.Event()
    others: list[asyncio.Task[None]] = []

    async def late(use: Callable[[], Awaitable[object]]) -> None:
        await ended.wait()
        await use()

    async def writes_twice(customer: str) -> None:
        for number in range(2):
            await Order.create(customer=f"{customer}{number}")

    async def fails_while_they_write() -> None:
        async with transaction():
            others.extend(asyncio.create_task(writes_twice(customer)) for customer in "abcdefghi")
            await Order.create(customer="first")
            raise ZeroDivisionError

    async with opened(settings) as app:
        async with transaction():
            late_ones = [asyncio.create_task(late(use)) for use in uses]
        ended.set()
        for each in late_ones:
            with pytest.raises(TransactionManagementError, match="in which this task was started has ended"):
                await each
        with pytest.raises(ZeroDivisionError):
            await fails_while_they_write()
        await asyncio.wait(others)
        assert isinstance(others[-1].exception(), TransactionManagementError)
        assert await counted(app) == {}


async def test_transactions_and_other_writes_at_once_all_end(settings: Settings) -> None:
    async with opened(waiting(settings, 60)) as app:  # else a slow machine would end some of them

        async def cancelled(customer: str) -> None:
            async with transaction() as tx:
                await Order.create(customer=customer)
                await submit(pack, {"order": 1}, in_transaction=tx)
                raise asyncio.CancelledError

        many = 20
        async with asyncio.timeout(300):
            await asyncio.gather(
                *(placed(f"a{number}") for number in range(many)),
                *(submit(pack, {"order": 1}) for _ in range(many)),
                *(cancelled(f"c{number}") for number in range(many)),
                return_exceptions=True,
            )
        assert await Order.all().count() == many
        assert await app.service.database.rows("SELECT unfinished, jobs FROM job_usage") == [(2 * many, 2 * many)]


async def test_transactions_that_wait_for_a_locked_file_give_up_at_the_same_time(database_file: str) -> None:
    other = sqlite3.connect(database_file, isolation_level=None)
    async with opened(waiting(Settings(database_url=f"sqlite://{database_file}"), 1)) as app:
        with closing(other):
            other.execute("BEGIN IMMEDIATE")
            errors = await asyncio.gather(*(placed(name) for name in "abcde"), return_exceptions=True)
        assert {type(error) for error in errors} == {DatabaseUnavailable}
        assert "no transaction could begin within 1 s: others of this process, or another process, hold the file" in {
            str(error) for error in errors[1:]
        }
        assert await counted(app) == {}
        await placed("a")


@pytest.fixture
async def script(database_file: str) -> AsyncIterator[App]:
    async with opened(Settings(database_url=f"sqlite://{database_file}")) as app:
        yield app


async def test_a_key_submits_one_job(script: App) -> None:
    first = await submit(pack, {"order": 1}, idempotency_key="k")
    assert not first.replayed
    again = await submit(pack, {"order": 1}, idempotency_key="k")
    assert (again.id, again.replayed) == (first.id, True)
    with pytest.raises(KeyReused):
        await submit(pack, {"order": 2}, idempotency_key="k")
    async with transaction() as tx:
        assert await submit(pack, {"order": 1}, idempotency_key="k", in_transaction=tx) == again
        new = await submit(pack, {"order": 3}, idempotency_key="n", in_transaction=tx)
        repeated = await submit(pack, {"order": 3}, idempotency_key="n", in_transaction=tx)
        assert (repeated.id, repeated.replayed) == (new.id, True)
        with pytest.raises(KeyReused):
            await submit(pack, {"order": 4}, idempotency_key="n", in_transaction=tx)
        async with transaction() as inner:
            outer = await submit(pack, {"order": 5}, idempotency_key="o", in_transaction=tx)
            assert (await submit(pack, {"order": 5}, idempotency_key="o", in_transaction=inner)).id == outer.id
    assert await counted(script) == {"jobs": 3, "job_usage": 1, "idempotency_keys": 3}


async def test_options_are_those_of_a_request_and_checked_alike(script: App) -> None:
    job = await submit(
        pack,
        {"order": 1},
        priority=7,
        delay=60,
        timeout=9,
        max_attempts=3,
        callback_url="https://example.com/done",
        callback_events=["job.failed"],
    )
    stored = await script.service.store.reading.get(job.id, None)
    assert (stored.urgency, stored.stage, stored.timeout, stored.max_attempts) == (-7, "delayed", 9, 3)
    assert (stored.callback_url, stored.callback_events) == ("https://example.com/done", "job.failed")
    for wrong, pointer in (
        ({"priority": 101}, "#/priority"),
        ({"delay": -1}, "#/delay"),
        ({"max_attempts": 0}, "#/max_attempts"),
        ({"callback_events": ["job.began"], "callback_url": "https://example.com/"}, "#/callback_events"),
        ({"callback_url": "gopher://example.com/"}, "#/callback_url"),
        ({"args": {"order": "x"}}, "#/args/order"),
        ({"args": "order"}, "#/args"),
        ({"run_at": "2030-01-01"}, "#/run_at"),
        ({"idempotency_key": 5}, "#/idempotency_key"),
        ({"idempotency_key": ""}, "#/idempotency_key"),
        ({"idempotency_key": "\ud800"}, "#/idempotency_key"),
    ):
        with pytest.raises(InvalidInput, match=f"^{pointer}"):
            await submit(pack, **{"args": {"order": 1}} | wrong)


async def test_uses_that_cannot_work_are_refused_with_the_reason(database_file: str) -> None:
    settings = Settings(database_url=f"sqlite://{database_file}")
    with pytest.raises(RuntimeError, match="no service is open here"):
        await submit(pack, {"order": 1})
    async with started(settings) as app:
        with pytest.raises(RuntimeError, match="is open already"):
            await open_service(app).__aenter__()
        async with transaction() as tx:
            with pytest.raises(RuntimeError, match="name it, as in submit"):
                await submit(pack, {"order": 1})
            with pytest.raises(RuntimeError, match="started in the transaction of another task"):
                await asyncio.create_task(transaction().__aenter__())
        with pytest.raises(RuntimeError, match="this transaction has ended"):
            await submit(pack, {"order": 1}, in_transaction=tx)
        async with in_transaction() as client:
            with pytest.raises(RuntimeError, match=r"that `transaction\(\)` has not opened: end it first"):
                await transaction().__aenter__()
            for wrong in (client, True):
                with pytest.raises(TypeError, match=r"in_transaction=.*: name what `transaction\(\)` has opened"):
                    await submit(pack, {"order": 1}, in_transaction=wrong)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="is not one of this app"):
            await submit(task("pack")(pack.function), {"order": 1})
        job = await submit(log_inside)
        assert (await app.service.submissions.wait(job.id, 15)).status == "succeeded"
        assert (await app.test_client().get("/log-inside")).status_code == 200
