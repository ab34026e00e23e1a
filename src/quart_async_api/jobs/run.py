"""One run: an attempt of a job in this process, and the reason of its stop."""

import asyncio
import contextvars
from dataclasses import dataclass, field
from enum import StrEnum

from .context import JobContext
from .states import JobRecord


class Reason(StrEnum):
    """Why a run is stopped."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class Run:
    """One attempt of a job that this worker claimed. `life` ends when its outcome is written, or is cancelled without that.

    `task` runs the body, and then writes its outcome.
    """

    job: JobRecord
    token: str
    context: JobContext
    within: contextvars.Context
    task: asyncio.Task[None] = field(init=False)
    has_begun: bool = False  # a task that is cancelled before its first step would not even write the outcome
    life: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    reason: Reason | None = None
    limit: asyncio.TimerHandle | None = None  # abandons it
    is_over: bool = False  # the body has ended, or is abandoned
