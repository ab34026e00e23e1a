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
