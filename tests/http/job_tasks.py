"""Tasks that end as a test wants them to, when it wants it, and the app that has them and a route of each."""

import asyncio
from collections import Counter
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field
from quart import Quart, Response, jsonify

from quart_async_api.errors import UpstreamFailed, UpstreamTimeout
from quart_async_api.http.contract.operations import View
from quart_async_api.http.delivery.delivers import delivers
from quart_async_api.http.parts import parts_of
from quart_async_api.tasks import Backoff, Task, TaskContext, task

RUNS: Counter[str] = Counter()
_GATES: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    """What `held` waits for under this name; each test takes a name of its own."""
    return _GATES.setdefault(name, asyncio.Event())


@task("held")
async def held(ctx: TaskContext, *, name: str, steps: int = 0) -> dict[str, str]:
    """Wait for a gate, then tell some progress."""
    RUNS[name] += 1
    gate(f"{name} has begun").set()
    await ctx.progress(1, 2, "waiting")
    await gate(name).wait()
    for step in range(steps):
        await ctx.log(f"step {step}")
    return {"name": name}


@task("stubborn")
async def stubborn(ctx: TaskContext, *, name: str) -> None:
    """Tell that it runs, and once cancelled wait for a gate before it ends."""
    await ctx.progress(0, 1)
    try:
        await asyncio.Event().wait()
    finally:
        await gate(name).wait()


@task("raises")
async def raises(ctx: TaskContext) -> int:
    """Fail for a reason of its own."""
    raise RuntimeError("the secret reason")


@task("late", timeout=0.01)
async def late(ctx: TaskContext) -> int:
    """Take longer than it may."""
    await asyncio.sleep(60)
    return 1


@task("unreachable")
async def unreachable(ctx: TaskContext) -> int:
    """Meet an upstream that is down."""
    raise UpstreamFailed("it is down")


@task("sluggish")
async def sluggish(ctx: TaskContext) -> int:
    """Meet an upstream that is slow."""
    raise UpstreamTimeout("it is slow")


@task("untyped")
async def untyped(ctx: TaskContext) -> int:
    """Return something else than it says."""
    value: Any = "text"
    return value  # type: ignore[no-any-return]


@task("long")
async def long(ctx: TaskContext, *, size: int = 20_000) -> str:
    """Return a long text."""
    return "x" * size


@task("second-time", retries=1, retryable=(RuntimeError,), backoff=Backoff(initial=0))
async def second_time(ctx: TaskContext) -> int:
    """Fail at first."""
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return ctx.attempt


@task("rarely", schedule="0 0 29 2 *")
async def rarely(ctx: TaskContext) -> str:
    """Run on a leap day."""
    return "as scheduled"


ROUTED = (held, raises, late, unreachable, sluggish, untyped, long, second_time)


@cache  # a millisecond each to make, and most tests add all of them
def _view(one: Task) -> View:
    async def render(result: Any) -> Response:
        return jsonify(result)

    render.__name__ = f"sample_{one.name}"
    return delivers(one)(render)


def add_routes(app: Quart) -> None:
    """Give each task a route of its name."""
    assert parts_of(app).tasks.keys() >= {one.name for one in ROUTED}
    for one in ROUTED:
        app.add_url_rule(f"/{one.name}", f"sample_{one.name}", _view(one))


@task("echo")
async def echo(ctx: TaskContext, *, text: str) -> None:
    """Say what it was given as its progress."""
    await ctx.progress(1, 1, text)


@task("repeat")
async def repeat(ctx: TaskContext, *, value: Any) -> Any:
    """Return what it was given; texts of a list are logged and told as progress too."""
    for text in value if isinstance(value, list) else ():
        if isinstance(text, str):
            await ctx.log(text)
            await ctx.progress(1, 1, text)
    return value


@task("shaped")
async def shaped(
    ctx: TaskContext,
    *,
    text: str,
    number: Annotated[int, Field(ge=1, le=9)] = 1,
    shade: Literal["red", "blue"] = "red",
    flag: bool = False,
    many: tuple[int, ...] = (),
    maybe: str | None = None,
) -> None:
    """Take arguments of many types."""
