"""The resources of an app, and what it opens in its `while_serving`: there for every job, and closed after the last one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

import pytest
from quart.testing import QuartClient

from quart_async_api import App, Settings, TaskContext, create_app, resource, task
from quart_async_api.errors import DatabaseUnavailable, StartupError
from quart_async_api.http.delivery.delivers import delivers
from quart_async_api.service import Role

from .conftest import ended, started


class Pool:
    """Something that is opened, used and closed."""

    def __init__(self, name: str = "pool") -> None:
        self.name = name
        self.is_open = True
        self.uses = 0

    def use(self) -> str:
        assert self.is_open
        self.uses += 1
        return self.name

    async def close(self) -> None:
        self.is_open = False


BEGUN = asyncio.Event()  # `ask-at-the-end`


@task("ask")
async def ask(ctx: TaskContext) -> str:
    """Use the pool."""
    return ctx.resource(Pool).use()


@task("ask-at-the-end")
async def ask_at_the_end(ctx: TaskContext) -> None:
    """Use the pool when the service stops."""
    pool = ctx.resource(Pool)
    BEGUN.set()
    try:
        await asyncio.Event().wait()
    finally:
        pool.use()


def app_with(settings: Settings, pool: Pool) -> App:
    @asynccontextmanager
    async def open_pool() -> AsyncIterator[Pool]:
        await asyncio.sleep(0.05)  # a connection takes its time, and jobs wait in the queue
        yield pool
        await pool.close()

    return create_app(settings, tasks=[ask, ask_at_the_end], resources=[open_pool])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"drain_seconds": 0.1})


async def test_a_job_that_was_queued_before_the_start_ran_before_the_pool_was_there(settings: Settings) -> None:
    first = create_app(settings, tasks=[_module()])
    first.take(Role(runs_jobs=False))
    async with first.test_app():
        job = await started(first.test_client(), "ask")  # type: ignore[arg-type]
    pool = Pool()
    app = app_with(settings, pool)
    async with app.test_app():
        document = await ended(app.test_client(), job)  # type: ignore[arg-type]
    assert (document["status"], document["result"], document["attempt"]) == ("succeeded", "pool", 1)
    assert (pool.uses, pool.is_open) == (1, False)


def _module() -> ModuleType:
    tasks = ModuleType("tasks")
    vars(tasks).update(ask=ask)
    return tasks


async def test_a_worker_and_a_route_have_the_resources_of_the_app(settings: Settings) -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def open_pool(settings: Settings) -> AsyncIterator[Pool]:
        opened.append("pool")
        yield Pool(f"pool of {settings.drain_seconds} s")
        opened.append("closed")

    async def use() -> str:
        return resource(Pool).use()

    def make_app() -> App:
        app = create_app(settings, tasks=[ask], resources=[open_pool])
        app.add_url_rule("/use", "use", use)
        return app

    app, worker = make_app(), make_app()
    worker.take(Role(serves=False))
    app.take(Role(runs_jobs=False))
    async with app.test_app(), worker.test_app():
        client = app.test_client()
        assert await (await client.get("/use")).get_data() == b"pool of 0.1 s"
        job = await started(client, "ask")  # type: ignore[arg-type]
        assert (await ended(client, job))["result"] == "pool of 0.1 s"  # type: ignore[arg-type]
    assert opened == ["pool", "pool", "closed", "closed"]


async def test_a_resource_that_cannot_be_opened_stops_the_start_by_its_name_and_closes_the_others(
    settings: Settings,
) -> None:
    @asynccontextmanager
    async def fails() -> AsyncIterator[Pool]:
        raise OSError("no route to host")
        yield Pool()

    @asynccontextmanager
    async def second() -> AsyncIterator[Pool]:
        yield Pool()

    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    for opener, said in (
        (fails, r"resource tests\..*\.fails cannot be opened: OSError: no route to host$"),
        (second, r"resource tests\..*\.second is a second Pool: give it a type of its own$"),
        (nothing, r"resource tests\..*\.nothing yields None"),
    ):
        pool = Pool()

        @asynccontextmanager
        async def first(pool: Pool = pool) -> AsyncIterator[Pool]:
            try:
                yield pool
            finally:
                await pool.close()

        app = create_app(settings, tasks=[ask], resources=[first, opener])
        with pytest.raises(StartupError, match=said):
            await app.startup()
        assert not pool.is_open


def test_a_resource_with_other_parameters_is_refused_when_the_app_is_made(settings: Settings) -> None:
    @asynccontextmanager
    async def open_pool(host: str, port: int) -> AsyncIterator[Pool]:
        yield Pool()

    with pytest.raises(
        TypeError, match=r"open_pool: write it as an async context manager of the settings, or of nothing"
    ):
        create_app(settings, resources=[open_pool])


async def test_a_job_that_runs_when_the_service_stops_still_has_the_pool(settings: Settings) -> None:
    pool = Pool()
    app = app_with(settings, pool)
    async with app.test_app():
        client = app.test_client()
        await started(client, "ask-at-the-end")  # type: ignore[arg-type]
        await asyncio.wait_for(BEGUN.wait(), 60)
    assert (pool.uses, pool.is_open) == (1, False)


async def test_a_pool_stayed_open_when_the_service_did_not_start(settings: Settings) -> None:
    pool = Pool()
    app = app_with(settings, pool)

    async def fail() -> None:
        raise DatabaseUnavailable("gone")

    app.service.engine.start = fail  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailable):
        await app.startup()
    assert not pool.is_open


async def test_a_pool_stayed_open_when_another_could_not_be_opened(settings: Settings) -> None:
    pool = Pool()
    app = app_with(settings, pool)
    begun = []

    @app.while_serving
    async def fails() -> AsyncGenerator[None, None]:
        begun.append("fails")
        raise OSError("no route to host")
        yield

    @app.while_serving
    async def comes_after() -> AsyncGenerator[None, None]:
        begun.append("comes after")
        yield

    with pytest.raises(OSError, match="no route"):
        await app.startup()
    assert not pool.is_open
    assert begun == ["fails"]


@pytest.mark.parametrize("fails", [False, True])
async def test_an_app_that_was_started_again_answered_503_or_ran_no_job(settings: Settings, fails: bool) -> None:
    app = create_app(settings)

    async def fail() -> None:
        raise DatabaseUnavailable("gone")

    if fails:
        app.service.engine.start = fail  # type: ignore[method-assign]
        with pytest.raises(DatabaseUnavailable):
            await app.startup()
        del app.service.engine.start
    else:
        await app.startup()
        await app.shutdown()
    with pytest.raises(StartupError, match=r"starts only once; make another one by create_app\(\)"):
        await app.startup()


async def test_one_pool_that_could_not_be_closed_kept_another_open(settings: Settings) -> None:
    pool = Pool()
    app = app_with(settings, pool)

    @app.while_serving
    async def fails() -> AsyncGenerator[None, None]:
        yield
        raise OSError("connection reset")

    await app.startup()
    with pytest.raises(OSError, match="reset"):
        await app.shutdown()
    assert not pool.is_open


async def test_what_quart_does_around_serving_is_done_once_and_in_its_order(settings: Settings) -> None:
    app = create_app(settings)
    seen = []

    @app.before_serving
    async def before() -> None:
        seen.append("before")

    for name in ("first", "second"):

        @app.while_serving
        async def opened(name: str = name) -> AsyncGenerator[None, None]:
            seen.append(f"{name} opens")
            yield
            seen.append(f"{name} closes")

    @app.after_serving
    async def after() -> None:
        seen.append("after")

    async with app.test_app():
        pass
    assert seen == ["before", "first opens", "second opens", "second closes", "first closes", "after"]


async def test_a_caller_who_waits_for_a_task_that_misses_a_resource_is_told_which(
    settings: Settings,
) -> None:
    app = create_app(settings, tasks=[_module()])

    async def as_it_is(result: str) -> None:
        """As it is."""

    app.add_url_rule("/ask", "ask", delivers(ask)(as_it_is))
    async with app.test_app():
        client = app.test_client()
        assert isinstance(client, QuartClient)
        response = await client.get("/ask")
        problem = await response.get_json()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert (problem["type"], problem["detail"]) == ("/problems/resource-missing", "this process has no Pool")
