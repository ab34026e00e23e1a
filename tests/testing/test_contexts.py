"""FakeContext and FakeThreadContext: a task's body without a service."""

import httpx
import pytest

from quart_async_api import TaskContext, ThreadContext, task
from quart_async_api.errors import ResourceMissing
from quart_async_api.testing import FakeContext, FakeThreadContext


class Pool:
    size = 3


@task("count")
async def count(ctx: TaskContext, *, to: int) -> int:
    """Count."""
    for number in range(to):
        await ctx.progress(number + 1, to, f"{number}")
    await ctx.log(f"{ctx.job_id} {ctx.attempt}")
    return ctx.resource(Pool).size


@task("count-in-a-thread", run_in="thread")
def count_in_a_thread(ctx: ThreadContext, *, to: int) -> int:
    """Count."""
    counted = 0
    while counted < to and not ctx.cancelled:
        counted += 1
        ctx.progress(counted)
    ctx.log("done")
    return counted


async def test_a_body_finds_its_resources_and_its_reports_are_kept() -> None:
    context: TaskContext = FakeContext(resources=[Pool()], job_id="job", attempt=2)
    assert await count(context, to=2) == 3
    assert isinstance(context, FakeContext)
    assert [(each.current, each.percent, each.message) for each in context.reported] == [
        (1, 50.0, "0"),
        (2, 100.0, "1"),
    ]
    assert context.logged == ["job 2"]
    with pytest.raises(ResourceMissing):
        await count(FakeContext(), to=0)


async def test_a_context_has_the_http_client_that_it_was_given() -> None:
    async with httpx.AsyncClient() as client:
        assert FakeContext(http=client).http is client
    with pytest.raises(LookupError, match="make it with http="):
        _ = FakeContext().http


def test_a_body_in_a_thread_is_told_to_stop() -> None:
    context: ThreadContext = FakeThreadContext()
    assert count_in_a_thread(context, to=2) == 2
    assert isinstance(context, FakeThreadContext)
    assert (len(context.reported), context.logged) == (2, ["done"])
    context.cancelled = True
    assert count_in_a_thread(context, to=2) == 0
