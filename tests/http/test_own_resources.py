"""What an app opens in its `while_serving` is there for every job, and is closed when the last one has ended."""

import asyncio
from collections.abc import AsyncGenerator
from types import ModuleType

import pytest
from quart.testing import QuartClient

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.app import App
from quart_async_api.errors import DatabaseUnavailable, StartupError
from quart_async_api.http.delivery.delivers import delivers

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
    tasks = ModuleType("tasks")
    vars(tasks).update(ask=ask, ask_at_the_end=ask_at_the_end)
    app = create_app(settings, tasks=[tasks])

    @app.while_serving
    async def opened() -> AsyncGenerator[None, None]:
        await asyncio.sleep(0.05)  # a connection takes its time, and jobs wait in the queue
        app.resources[Pool] = pool
        yield
        await pool.close()

    return app


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"drain_seconds": 0.1})


async def test_a_job_that_was_queued_before_the_start_ran_before_the_pool_was_there(settings: Settings) -> None:
    first = create_app(settings, tasks=[_module()])
    async with first.test_app():
        first.service.runs.readiness._unready["ask"] = float("inf")  # this process leaves it to the next
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


async def test_a_job_that_runs_when_the_service_stops_still_has_the_pool(settings: Settings) -> None:
    pool = Pool()
    app = app_with(settings, pool)
    async with app.test_app():
        client = app.test_client()
        await started(client, "ask-at-the-end")  # type: ignore[arg-type]
        await asyncio.wait_for(BEGUN.wait(), 10)
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
