"""What the end of an attempt leaves for operators: one line of the log, and the traceback of a failure."""

import logging
import traceback
from typing import TYPE_CHECKING, NamedTuple

from ..moments import moment
from ..observability.tracing import Kind, RunContext, Span, current, recorder
from .states import JobRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_LINE = "job %s (%s) %s in attempt %d after %d ms%s"
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
    ended_as: Status | None  # how the job has ended; None: it has not
    kind: str  # of a failure: the exception, or the type of the problem


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
        ended_as: Status | None = None,
        kind: str = "",
    ) -> None:
        """Report the end of an attempt at `now`. `job` is the job as it was claimed.

        In the message, `verb` replaces the outcome, and `about` is the end.
        """
        if not self.listeners and not log.isEnabledFor(level) and recorder() is None:
            return
        started = moment(job.started_at or now)
        queued = max(0.0, (started - moment(job.run_at)).total_seconds())
        ran = max(0.0, (moment(now) - started).total_seconds())
        of = worker or job.worker or ""
        end = AttemptEnd(job.id, job.task, job.attempt, outcome, queued, ran, of, retried, ended_as, kind)
        for listener in self.listeners:
            listener(end)
        _record(job, outcome, now, cause)
        if not log.isEnabledFor(level):
            return
        data = fields(job) | {
            "outcome": outcome,
            "queued_ms": round(queued * 1000, 1),
            "run_ms": round(ran * 1000, 1),
            "worker": end.worker,
        }
        fault = None if cause is None else (type(cause), cause, cause.__traceback__)
        values = (job.id, job.task, verb or outcome, job.attempt, ran * 1000, about)
        # What `log.log` does, without a look for its caller in the stack.
        log.handle(log.makeRecord(log.name, level, __file__, 0, _LINE, values, fault, extra=data))


def fields(job: JobRecord) -> dict[str, object]:
    """Return what a log line about a run says of it besides its text."""
    return {"job_id": job.id, "task": job.task, "attempt": job.attempt}


def _record(job: JobRecord, outcome: str, now: str, cause: BaseException | None) -> None:
    """Write the span of an attempt (OpenTelemetry's semantic conventions for messaging)."""
    run, spans = current(), recorder()
    if spans is None or not isinstance(run, RunContext) or run.job_id != job.id or run.traceparent is None:
        return  # a crash: the span of the attempt was of the process that has died
    attributes: dict[str, str | int] = {
        "messaging.system": "quart_async_api",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": job.task,
        "messaging.message.id": job.id,
        "messaging.client.id": job.worker or "",
        "quart_async_api.attempt": job.attempt,
        "quart_async_api.outcome": outcome,
    }
    failed = (type(cause).__name__ if cause is not None else outcome) if outcome in ("failed", "lost") else None
    name, began = f"run {job.task}", _nanoseconds(job.started_at or now)
    ended = _nanoseconds(now)
    spans.record(Span(Kind.CONSUMER, name, run.traceparent, job.traceparent, began, ended, attributes, failed))


def _nanoseconds(text: str) -> int:
    return round(moment(text).timestamp() * 1_000_000) * 1000


def shown_traceback(cause: BaseException | None) -> str | None:
    """Return the end of a traceback as text that every database takes, or None for no exception."""
    if cause is None:
        return None
    text = "".join(traceback.format_exception(cause))[-TRACEBACK_CHARACTERS:]
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
