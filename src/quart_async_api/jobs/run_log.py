"""What the end of an attempt leaves for operators: one line of the log, and the traceback of a failure."""

import logging
import traceback
from typing import TYPE_CHECKING, NamedTuple

from ..moments import moment
from .states import JobRecord

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

TRACEBACK_CHARACTERS = 16_000  # of its end, which names the exception


class AttemptEnd(NamedTuple):
    """An attempt that has ended, and is written. Durations are in seconds.

    `outcome`: succeeded, failed, cancelled, crashed; returned, which does not count; lost: another worker has the job.
    """

    job_id: str
    task: str
    attempt: int
    outcome: str
    queued: float
    ran: float
    worker: str
    retried: bool  # another attempt follows the failed one


class RunLog:
    """Writes one line for each end of an attempt, and tells `listeners`, which must not raise."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[AttemptEnd], None]] = []

    def ended(
        self,
        job: JobRecord,
        outcome: str,
        now: str,
        *,
        worker: str | None = None,
        level: int = logging.INFO,
        verb: str | None = None,
        about: str = "",
        cause: BaseException | None = None,
        retried: bool = False,
    ) -> None:
        """Report the end of an attempt at `now`. `job` is the job as it was claimed.

        In the message, `verb` replaces the outcome, and `about` is the end.
        """
        if not self.listeners and not log.isEnabledFor(level):
            return
        started = moment(job.started_at or now)
        queued = max(0.0, (started - moment(job.run_at)).total_seconds())
        ran = max(0.0, (moment(now) - started).total_seconds())
        end = AttemptEnd(job.id, job.task, job.attempt, outcome, queued, ran, worker or job.worker or "", retried)
        for listener in self.listeners:
            listener(end)
        log.log(
            level,
            "job %s (%s) %s in attempt %d after %d ms%s",
            job.id,
            job.task,
            verb or outcome,
            job.attempt,
            ran * 1000,
            about,
            extra={
                "job_id": job.id,
                "task": job.task,
                "attempt": job.attempt,
                "outcome": outcome,
                "queued_ms": round(queued * 1000, 1),
                "run_ms": round(ran * 1000, 1),
                "worker": end.worker,
            },
            exc_info=cause,
        )


def shown_traceback(cause: BaseException | None) -> str | None:
    """Return the end of a traceback as text that every database takes, or None for no exception."""
    if cause is None:
        return None
    text = "".join(traceback.format_exception(cause))[-TRACEBACK_CHARACTERS:]
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
