"""Names what blocks the event loop: a thread takes the stack of the loop's thread when the loop has not ticked in time."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0  # between two reports of the same name
AGAIN_SECONDS = 0.05  # between two samples: what is blocked stands at the same call
STACK_FRAMES = 40  # of the innermost
OTHER = "other"  # a callback, or a task that has no name here
OVERLOAD = "overload"  # no single call: too many short ones
UNSEEN = "unknown"  # no Python thread could run: no CPU, or a call that holds the interpreter lock

Names = dict[CodeType, Callable[[Mapping[str, Any]], str]]


class Block(NamedTuple):
    """One time in which the loop did not tick. `by` is one of few names: a task, a route or a loop. `where` names no folder."""

    by: str
    where: str
    seconds: float
    ended_at: datetime


class _Sample(NamedTuple):
    by: str
    where: str
    stack: str
    running: object  # what the loop ran: the same object in two samples of a call that blocks


class LoopWatch:
    """Watches the loop that calls `start`. A block is longer than `seconds`; 0: nothing is watched.

    `names` says, for the code of a function, whom its local variables name. The innermost such function on the stack counts.
    """

    def __init__(self, seconds: float, names: Names) -> None:
        self.seconds = seconds
        self.names = names
        self.listeners: list[Callable[[Block], None]] = []
        self.last: Block | None = None
        self._every = max(seconds / 4, 0.01)
        self._ticks = 0
        self._due = 0.0
        self._seen: tuple[int, _Sample] | None = None
        self._told: dict[str, tuple[float, int]] = {}  # when, and how many were not told since, by name
        self._ended = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self.seconds:
            self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
            self._tick_later()
            threading.Thread(target=self._run, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    # On the loop

    def _tick_later(self) -> None:
        self._ticks += 1
        self._due = time.monotonic() + self._every
        self._timer = self._loop.call_later(self._every, self._tick)

    def _tick(self) -> None:
        late = time.monotonic() - self._due
        tick, sample = self._seen or (0, None)
        if tick != self._ticks:
            sample = None
        if late > self.seconds:
            self._over(late, sample)
        self._tick_later()

    def _over(self, seconds: float, sample: _Sample | None) -> None:
        by, where = (sample.by, sample.where) if sample else (UNSEEN, "")
        self.last = Block(by, where, seconds, datetime.now(UTC))
        for listener in self.listeners:
            listener(self.last)
        if sample is not None and self._told.get(by, (0.0, 0))[1]:
            return  # its stack was not told either
        if sample is None and not self._may_tell(by):
            return
        log.warning(
            "the event loop was blocked for %.1f s by %s%s",
            seconds,
            by,
            f" at {where}" if where else ": the process had no CPU, or a call held the interpreter lock",
            extra={"blocked_by": by, "seconds": round(seconds, 3), "where": where},
        )

    # In the thread

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            tick, late = self._ticks, time.monotonic() - self._due
            if late > self.seconds and (self._seen is None or self._seen[0] != tick):
                self._look(tick, late)

    def _look(self, tick: int, late: float) -> None:
        first = self._sample()
        self._ended.wait(AGAIN_SECONDS)
        second = self._sample() if self._ticks == tick else first
        if first is None or second is None:
            return
        if first.running is not second.running:
            second = second._replace(by=OVERLOAD)
        self._seen = tick, second._replace(running=None)
        if self._ticks == tick and self._may_tell(second.by):
            log.warning(
                "the event loop has been blocked for %.1f s by %s at %s",
                late,
                second.by,
                second.where,
                extra={"blocked_by": second.by, "where": second.where, "stack": second.stack},
            )

    def _sample(self) -> _Sample | None:
        frame = sys._current_frames().get(self._thread)
        if frame is None:
            return None
        frames = list(_inwards(frame))
        task = asyncio.current_task(self._loop)
        by = OTHER
        for each in frames:
            if name := self.names.get(each.f_code):
                by = name(each.f_locals)
        own = next((each for each in reversed(frames) if not _is_library(each)), frame)
        where = f"{Path(own.f_code.co_filename).name}:{own.f_lineno} in {own.f_code.co_qualname}"
        stack = traceback.StackSummary.extract((each, each.f_lineno) for each in frames[-STACK_FRAMES:])
        return _Sample(by, where, "".join(stack.format()), task or frame)

    def _may_tell(self, by: str) -> bool:
        now = time.monotonic()
        told_at, untold = self._told.get(by, (-QUIET_SECONDS, 0))
        if now - told_at < QUIET_SECONDS:
            self._told[by] = told_at, untold + 1
            return False
        self._told[by] = now, 0
        return True


def _inwards(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of a stack, the innermost last."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


_LIBRARIES = (str(Path(threading.__file__).parent), "<frozen")


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_LIBRARIES) or "site-packages" in name
