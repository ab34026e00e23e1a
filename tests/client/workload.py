"""Tasks whose moments the tests choose: a run goes on when its gate, a file, is there."""

import asyncio
from pathlib import Path

from pydantic import JsonValue

from quart_async_api import TaskContext, task


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


@task("echo")
async def echo(ctx: TaskContext, *, value: JsonValue = None, text: str = "") -> JsonValue:
    """Return what it was given."""
    return value if text == "" else text


@task("long")
async def long(ctx: TaskContext) -> str:
    """Return more than events carry."""
    return "x" * 20_000
