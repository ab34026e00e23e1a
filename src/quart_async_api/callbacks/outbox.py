"""Inserts the callbacks of a job's events, in the same transaction as the event."""

import json
from typing import TYPE_CHECKING

from ..db.group_commit import Unit
from ..jobs.ids import new_id
from ..jobs.states import JobRecord
from ..moments import later
from ..settings import Settings
from .deliveries import GONE, attempt, url_digest
from .queues import AT_ONCE, due_at
from .target import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS = "job.progress"
TERMINAL_TYPES = ("job.succeeded", "job.failed", "job.cancelled")
TYPES = (*TERMINAL_TYPES, PROGRESS)


class CallbackOutbox:
    """The Outbox of the job store. It calls `on_committed` after a commit with new callbacks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.on_committed: Callable[[], None] = lambda: None

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """Insert the delivery of `event`, if the job's caller asked for it."""
        kind = f"job.{event}"
        if job.callback_url is None or kind not in (job.callback_events or "").split(","):
            return
        gone = yield ("SELECT 1 FROM callback_disabled_targets WHERE digest = ?", (url_digest(job.callback_url),))
        first = self._settings.callback_schedule[0]
        due = None if gone.rows else later(now, first) if first else AT_ONCE
        message_id = f"msg_{new_id()}"
        origin = origin_of(job.callback_url)
        body = json.dumps({"type": kind, "timestamp": now, "data": job.document(whole=False)}, separators=(",", ":"))
        yield (
            "INSERT INTO callback_deliveries (message_id, job_id, owner, url, origin, type, body, traceparent, status, tries, "
            "created_at, set_at, next_attempt_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
            (
                message_id,
                job.id,
                job.owner or "",
                job.callback_url,
                origin,
                kind,
                body,
                job.traceparent,
                "pending" if due is not None else "failed",
                now,
                now,
                due,
                None if due is not None else later(now, self._settings.result_ttl),
            ),
        )
        if due is None:
            yield attempt(message_id, now, None, GONE, None)
        else:
            yield due_at(job.owner or "", origin, due, now)

    def committed(self) -> None:
        self.on_committed()
