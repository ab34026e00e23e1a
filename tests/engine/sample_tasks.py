"""Tasks that end in every way a task can; what they did is in `executions`, by job."""

import asyncio
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from quart_async_api.tasks import Backoff, TaskContext, ThreadContext, task

AT_ONCE = Backoff(initial=0.0)

executions: Counter[str] = Counter()
order: list[str] = []
running: set[str] = set()
most_running = 0
gates: dict[str, asyncio.Event] = {}
threads: list[str] = []
thread_gates: dict[str, threading.Event] = {}


class Transient(Exception):
    pass


def gate(name: str) -> asyncio.Event:
    """What `hold` tasks of this name wait for."""
    return gates.setdefault(name, asyncio.Event())


def thread_gate(name: str) -> threading.Event:
    """What `deaf` tasks of this name wait for, and `threaded` ones."""
    return thread_gates.setdefault(name, threading.Event())


def reset() -> None:
    """Forget what the tests before have done."""
    global most_running
    executions.clear()
    order.clear()
    running.clear()
    gates.clear()
    threads.clear()
    for opened in thread_gates.values():
        opened.set()
    thread_gates.clear()
    most_running = 0


@task("double")
async def double(ctx: TaskContext, *, number: int) -> int:
    """Twice the number."""
    executions[ctx.job_id] += 1
    order.append(str(number))
    return 2 * number


@task("talk")
async def talk(ctx: TaskContext, *, steps: int) -> None:
    """Say how far it is, faster than is written."""
    for step in range(1, steps + 1):
        await ctx.progress(step, steps, f"step {step}")
    await ctx.log("talked")


@task("narrate")
async def narrate(ctx: TaskContext, *, steps: int) -> None:
    """Report a step, then log it, faster than progress is written."""
    for step in range(steps):
        await ctx.progress(step)
        await ctx.log(str(step))


@task("narrate-in-thread", run_in="thread")
def narrate_in_thread(ctx: ThreadContext, *, steps: int) -> None:
    """The same in a thread."""
    for step in range(steps):
        ctx.progress(step)
        ctx.log(str(step))


@task("deaf", run_in="thread", timeout=0.05)
def deaf(ctx: ThreadContext, *, name: str, listens: bool = False) -> None:
    """Block its thread past its timeout, until a test lets it go or, where it listens, until it is to stop."""
    while not thread_gate(name).wait(0.005):
        if listens and ctx.cancelled:
            threads.append(ctx.job_id)
            return


@task("hold")
async def hold(ctx: TaskContext, *, name: str = "gate") -> int:
    """Run until the gate opens."""
    global most_running
    executions[ctx.job_id] += 1
    running.add(ctx.job_id)
    most_running = max(most_running, len(running))
    try:
        await gate(name).wait()
    finally:
        running.discard(ctx.job_id)
    return ctx.attempt


@task("flaky", retries=2, backoff=AT_ONCE, retryable=(Transient,))
async def flaky(ctx: TaskContext, *, failures: int, error: str = "Transient") -> int:
    """Fail so many times, then succeed."""
    executions[ctx.job_id] += 1
    await ctx.progress(ctx.attempt)
    if ctx.attempt <= failures:
        raise Transient if error == "Transient" else ValueError
    return ctx.attempt


@task("slow", timeout=0.05, retries=3, backoff=AT_ONCE, retryable=(Transient,))
async def slow(ctx: TaskContext) -> None:
    """Take too long."""
    executions[ctx.job_id] += 1
    await asyncio.sleep(60)


@task("slow-again", timeout=0.05, retries=1, backoff=AT_ONCE, retryable=(TimeoutError,))
async def slow_again(ctx: TaskContext) -> int:
    """Take too long, once."""
    executions[ctx.job_id] += 1
    if ctx.attempt == 1:
        await asyncio.sleep(60)
    return ctx.attempt


@task("endless-timeout", timeout=0.05)
async def endless_timeout(ctx: TaskContext) -> None:
    """Take no notice of its timeout."""
    await _stubborn()


async def _stubborn() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@task("stubborn")
async def stubborn(ctx: TaskContext) -> None:
    """Swallow every cancellation."""
    running.add(ctx.job_id)
    await _stubborn()


@task("misbehave")
async def misbehave(ctx: TaskContext, *, how: str) -> Any:
    """End in a way that no task should."""
    match how:
        case "raise":
            raise ValueError("a secret")
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "cancel itself":
            raise asyncio.CancelledError
        case "no JSON":
            return object()
        case "NaN":
            return float("nan")
        case "too big":
            return "x" * 2_000_000
        case "half a pair":
            return "\ud800"
        case _:
            raise AssertionError(how)


@task("half-said")
async def half_said(ctx: TaskContext) -> None:
    """Say what cannot be encoded."""
    await ctx.progress(1, 1, "\ud800")


@task("threaded", run_in="thread")
def threaded(ctx: ThreadContext, *, seconds: float, how: str = "return") -> str:
    """Block its thread, so long or until a test lets it go."""
    ctx.progress(1, 2)
    ctx.log("in the thread")
    if how == "stop":
        raise StopIteration
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ctx.cancelled and not thread_gate("threaded").wait(0.005):
        pass
    threads.append(ctx.job_id)
    return "cancelled" if ctx.cancelled else "slept"


@task("each-minute", schedule="* * * * *")
async def each_minute(ctx: TaskContext) -> None:
    """Run by the clock."""
    executions["each-minute"] += 1


@task("hold-once")
async def hold_once(ctx: TaskContext) -> int:
    """Run until the process is killed, the first time."""
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt
