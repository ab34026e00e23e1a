"""The trace of a request goes on to the jobs that it starts, to their upstream calls, and to their callbacks."""

import threading
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, cast

import pytest
from quart.testing import QuartClient

from quart_async_api import Settings, TaskContext, ThreadContext, create_app, task
from quart_async_api.app import App
from quart_async_api.observability.tracing import RunContext, current, outgoing_headers
from tests.callbacks.receiver import Receiver
from tests.engine.conftest import until
from tests.upstream.faults import FaultyStandIn

from .conftest import ended, started

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@task("call", retries=1, retryable=(RuntimeError,))
async def call(ctx: TaskContext, *, failures: int = 0) -> None:
    """Call an upstream."""
    await ctx.http.get(ctx.settings.external_api_url)
    if ctx.attempt <= failures:
        raise RuntimeError


@task("each-minute", schedule="* * * * *")
async def each_minute(ctx: TaskContext) -> dict[str, str]:
    """Tell what an upstream would get."""
    return dict(outgoing_headers())


@task("look", run_in="thread")
def look(ctx: ThreadContext) -> list[str]:
    """Tell what a client of its own would send, and whose run a line of the log is of."""
    run = cast("RunContext", current())
    return [threading.current_thread().name, outgoing_headers()["traceparent"], run.job_id, run.trace_id or ""]


@pytest.fixture
async def world() -> AsyncIterator[FaultyStandIn]:
    async with FaultyStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def app(settings: Settings, world: FaultyStandIn) -> AsyncIterator[App]:
    tasks = ModuleType("tasks")
    vars(tasks).update(call=call, look=look, each_minute=each_minute)
    given = settings.model_copy(
        update={"external_api_url": world.external_api_url, "callback_allow_private": True, "callback_schedule": (0.0,)}
    )
    app = create_app(given, tasks=[tasks])
    async with app.test_app():
        yield app


async def run(client: QuartClient, name: str, headers: dict[str, str], **members: Any) -> dict[str, Any]:
    response = await client.post("/jobs", json={"task": name, **members}, headers=headers)
    return await ended(client, await response.get_json())


def parts(world: FaultyStandIn) -> list[tuple[str, str]]:
    """The trace and the span of each call that has arrived."""
    sent = [request.headers["traceparent"].split("-") for request in world.seen]
    return [(trace, span) for _, trace, span, _ in sent]


async def test_a_call_from_a_job_was_no_part_of_the_trace_of_its_request(
    client: QuartClient, world: FaultyStandIn
) -> None:
    assert (await run(client, "call", HEADERS, args={"failures": 1}))["attempt"] == 2
    assert {trace for trace, _ in parts(world)} == {TRACE}
    spans = {span for _, span in parts(world)}
    assert len(spans) == 2, "each attempt is a span of its own"
    assert SPAN not in spans


async def test_a_job_that_is_run_again_by_hand_is_in_the_trace_of_whoever_asked(
    client: QuartClient, world: FaultyStandIn
) -> None:
    first = await run(client, "call", {}, args={"failures": 1}, max_attempts=1)
    again = await client.post(f"/jobs/{first['id']}/retry", headers=HEADERS)
    await ended(client, await again.get_json())
    [(other, _), (trace, _)] = parts(world)
    assert (other == TRACE, trace) == (False, TRACE)


async def test_a_scheduled_job_begins_a_trace(client: QuartClient) -> None:
    async def fired() -> list[dict[str, Any]]:
        page = await (await client.get("/jobs?task=each-minute")).get_json()
        return cast("list[dict[str, Any]]", page["items"])

    async def has_fired() -> bool:
        return bool(await fired())

    await until(has_fired)
    [*_, job] = await fired()
    trace = (await ended(client, job))["result"]["traceparent"].split("-")[1]
    assert len(trace) == 32
    assert trace.strip("0")


async def test_a_thread_knows_the_trace_and_the_job_of_its_run(client: QuartClient) -> None:
    job = await run(client, "look", HEADERS)
    name, traceparent, job_id, trace = job["result"]
    assert (name, traceparent.split("-")[1], job_id, trace) == ("task look", TRACE, job["id"], TRACE)


async def test_the_callbacks_of_a_job_are_in_the_trace_of_its_request(app: App, client: QuartClient) -> None:
    await app.service.secrets.create()
    async with Receiver() as receiver:
        await client.post("/jobs", json={"task": "look", "callback_url": receiver.url}, headers=HEADERS)
        [sent] = await receiver.got(1)
    _, trace, span, _ = sent.headers["traceparent"].split("-")
    assert (trace, span == SPAN) == (TRACE, False)


async def test_a_trace_that_is_damaged_in_the_database_holds_no_job_up(
    app: App, client: QuartClient, world: FaultyStandIn
) -> None:
    job = await started(client, "call", delay=60)
    await app.service.commits.run(lambda: _damaged(job["id"]))
    assert (await ended(client, job))["status"] == "succeeded"
    assert "traceparent" not in world.seen[0].headers


def _damaged(job_id: str) -> Any:
    yield "UPDATE jobs SET traceparent = 'damaged', run_at = created_at WHERE id = ?", (job_id,)
