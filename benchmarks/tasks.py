"""Tasks that the benchmarks run in a server: QAA_TASKS=benchmarks.tasks."""

import asyncio
from time import monotonic

from quart_async_api import TaskContext, task


@task("noop")
async def noop(ctx: TaskContext) -> float:
    """Do nothing, and say when; the monotonic clock of Linux is the same in all processes."""
    return monotonic()


@task("count_tasks")
async def count_tasks(ctx: TaskContext) -> int:
    """Count the asyncio tasks of the process."""
    return len(asyncio.all_tasks())


@task("ticking")
async def ticking(ctx: TaskContext, *, times: int, pause: float) -> None:
    """Send events that say when they were sent."""
    for number in range(times):
        await asyncio.sleep(pause)
        await ctx.progress(number + 1, times, f"sent at {monotonic():.6f}")
