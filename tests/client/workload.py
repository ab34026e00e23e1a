"""Tasks whose moments the tests choose: a run goes on when its gate, a file, is there."""

import asyncio
from pathlib import Path

from pydantic import JsonValue

from quart_async_api import ServiceError, TaskContext, problem, task


@problem("out-of-stock", 409, "Out of stock", "The warehouse has none left.")
class OutOfStock(ServiceError):
    pass


@task("gated")
async def gated(ctx: TaskContext, *, gate: str) -> int:
    """Say that it has begun, and wait for the gate."""
    await ctx.progress(1, 4, "at the gate")
    await ctx.log(f"attempt {ctx.attempt}\u2028waits")  # a line separator, which is none to an event stream
    while not Path(gate).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return ctx.attempt


@task("breaks")
async def breaks(ctx: TaskContext) -> None:
    """Raise."""
    raise ValueError("as it should")


@task("sell")
async def sell(ctx: TaskContext) -> None:
    """Raise an error of this module."""
    raise OutOfStock("none left")


@task("echo")
async def echo(ctx: TaskContext, *, value: JsonValue = None, text: str = "") -> JsonValue:
    """Return what it was given."""
    return value if text == "" else text


@task("long")
async def long(ctx: TaskContext) -> str:
    """Return more than events carry."""
    return "x" * 20_000
