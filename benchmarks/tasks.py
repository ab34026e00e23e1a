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


_gate = asyncio.Event()


@task("open_gate")
async def open_gate(ctx: TaskContext) -> None:
    """Let `ticking` begin, in this process."""
    _gate.set()


@task("ticking")
async def ticking(ctx: TaskContext, *, times: int, pause: float) -> None:
    """Once the gate is open, send events that say when they were sent."""
    await _gate.wait()
    for number in range(times):
        await ctx.progress(number + 1, times, f"sent at {monotonic():.6f}")
        await asyncio.sleep(pause)
