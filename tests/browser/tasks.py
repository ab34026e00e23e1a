"""Tasks that a test in a browser lets go on, through files in the folder of the service."""

import asyncio
from pathlib import Path

from quart_async_api.errors import UpstreamFailed
from quart_async_api.tasks import TaskContext, task

POLL = 0.02


@task("followed")
async def followed(ctx: TaskContext, *, name: str, lines: list[str]) -> list[str]:
    """Say each line when the file of its number is there."""
    await ctx.progress(0, len(lines), "begins")
    for number, line in enumerate(lines, 1):
        while not Path(f"{name}-{number}").exists():  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(POLL)
        await ctx.log(line)
        await ctx.progress(number, len(lines), line)
    return lines


@task("fails")
async def fails(ctx: TaskContext, *, why: str) -> None:
    """Fail."""
    raise UpstreamFailed(why)


@task("chatters")
async def chatters(ctx: TaskContext, *, every: float) -> None:
    """Tell progress until it is cancelled."""
    count = 0
    while True:
        await ctx.progress(count % 100, 100, f"step {count}")
        await asyncio.sleep(every)
        count += 1
