"""Tasks for QAA_TASKS whose every start and end is a line of a file, with the time and the process.

So is each moment in which the machine gave the process no time: a process that gets none sends no heartbeat either.
"""

import asyncio
import json
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import Field

from quart_async_api.tasks import Backoff, TaskContext, task

NOTES = "FAULTS_NOTES"  # the environment variable that names the file; notes go nowhere where it is not set
LOOK_SECONDS = 0.1
STALL_SECONDS = 0.3  # without a look


def note(**what: object) -> None:
    """Append one line, whole: other processes write there too. Times are of the machine's monotonic clock."""
    if (file := os.environ.get(NOTES)) is None:
        return
    line = json.dumps({**what, "pid": os.getpid(), "at": time.monotonic()}) + "\n"
    descriptor = os.open(Path(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def watch() -> None:
    """Note how long this process got no time, each time it was long."""
    looked = time.monotonic()
    while True:
        time.sleep(LOOK_SECONDS)
        before, looked = looked, time.monotonic()
        if (seconds := looked - before) > STALL_SECONDS:
            note(event="stalled", seconds=seconds)


if NOTES in os.environ:
    threading.Thread(target=watch, daemon=True).start()


class Again(httpx.ConnectError):
    """A failure of the outside world: another attempt may mend it, and the log does not call it a fault of the code."""


@task("noted", retries=3, retryable=(Again,), backoff=Backoff(initial=0.1, maximum=0.5))
async def noted(ctx: TaskContext, *, tag: str, seconds: float = 0, failing: Annotated[int, Field(ge=0)] = 0) -> object:
    """Note that it begins, tell how far it is, take so long, note how it ends; the first `failing` attempts fail."""
    run = uuid.uuid4().hex
    what = {"job": ctx.job_id, "attempt": ctx.attempt, "run": run, "tag": tag}
    await asyncio.to_thread(note, event="began", **what)
    how = "cancelled"
    try:
        await ctx.progress(1, 2, f"{ctx.attempt} {run}")
        await asyncio.sleep(seconds)
        await ctx.log(f"{ctx.attempt} {run}")
        if ctx.attempt <= failing:
            how = "failed"
            raise Again("not yet")
        how = "succeeded"
    finally:
        note(event="ended", how=how, **what)
    return {"run": run, "attempt": ctx.attempt, "tag": tag}


@task("count-tasks")
async def count_tasks(ctx: TaskContext) -> int:
    """How many asyncio tasks this process has."""
    return len(asyncio.all_tasks())


_kept: list[object] = []


@task("leak")
async def leak(ctx: TaskContext) -> None:
    """Lose some memory, a descriptor, a thread and an asyncio task."""
    waits = threading.Thread(target=threading.Event().wait, daemon=True)
    waits.start()
    forgotten = asyncio.create_task(asyncio.Event().wait())
    _kept.extend((os.urandom(100_000), os.dup(2), waits, forgotten))
