"""Tasks for QAA_TASKS, whose every start and end is a line of a file: what really ran, whatever the database says."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from quart_async_api.tasks import TaskContext, task


def _write(folder: str, line: str) -> None:
    descriptor = os.open(Path(folder) / "ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


@task("traced")
async def traced(ctx: TaskContext, *, folder: str, seconds: float) -> int:
    """Leave a trace, tell how far it is, take so long, and leave another."""
    await asyncio.to_thread(_write, folder, f"{ctx.job_id} {ctx.attempt} began")
    await ctx.progress(1, 2)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(_write, folder, f"{ctx.job_id} {ctx.attempt} ended")
    return ctx.attempt


@task("once-more")
async def once_more(ctx: TaskContext) -> int:
    """Run for ever, but for the second time."""
    if ctx.attempt < 2:
        await asyncio.sleep(3600)
    return ctx.attempt


@task("stubborn")
async def stubborn(ctx: TaskContext) -> None:
    """Swallow every cancellation."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@task("leaky")
async def leaky(ctx: TaskContext) -> None:
    """Leave behind a task that swallows every cancellation, and one that fails."""
    global _left
    _left = asyncio.create_task(stubborn.function(ctx))


_left: "asyncio.Task[None] | None" = None


@task("where")
async def where(ctx: TaskContext) -> int:
    """The process that it ran in."""
    return os.getpid()


@task("where-slow", queue="slow")
async def where_slow(ctx: TaskContext) -> int:
    """The same for jobs of another queue."""
    return os.getpid()


@task("loud")
async def loud(ctx: TaskContext, *, gate: str) -> str:
    """Log 10 MB to whoever watches, wait for a gate, and return 1 MB."""
    for _ in range(1000):
        await ctx.log("x" * 10_000)
    await asyncio.to_thread(_pass, gate)
    return "x" * 1_000_000


@task("gated")
async def gated(ctx: TaskContext, *, gate: str) -> str:
    """Wait for a gate, a named pipe, to be opened and closed again; the loop goes on."""
    await asyncio.to_thread(_pass, gate)
    return "passed"


@task("blocking")
async def blocking(ctx: TaskContext, *, folder: str, gate: str) -> int:
    """Hold up the whole event loop at a gate, but only the first time."""
    _write(folder, f"{ctx.job_id} {ctx.attempt} began")
    if ctx.attempt == 1:
        _pass(gate)
    _write(folder, f"{ctx.job_id} {ctx.attempt} ended")
    return os.getpid()


def _pass(gate: str) -> None:
    with open(gate, "rb") as pipe:
        pipe.read()
