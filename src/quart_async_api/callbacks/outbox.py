"""What is to be called back about a job, written in the transaction in which it happens."""

import hashlib
import json
from typing import TYPE_CHECKING

from ..db.group_commit import Statement, Unit
from ..jobs.ids import new_id
from ..jobs.states import JobRecord
from ..moments import later
from ..settings import Settings
from .target import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS = "job.progress"
TERMINAL_TYPES = ("job.succeeded", "job.failed", "job.cancelled")
TYPES = (*TERMINAL_TYPES, PROGRESS)
AT_ONCE = ""  # sorts before every moment: due whatever the clock says, even one that was set back
GONE = "not tried: the URL has answered 410 Gone; a replay tries it again"


class CallbackOutbox:
    """The Outbox of the job store. `on_committed` is called when there is something new to send."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.on_committed: Callable[[], None] = lambda: None

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """Insert the delivery of `event`, where the job's caller asked for it."""
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


def url_digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def due_at(owner: str, origin: str, due: str, now: str) -> Statement:
    """There is something to send for `owner` to `origin` at `due`, which is AT_ONCE or a moment after `now`.

    A queue that is due already keeps its place; one whose breaker is open waits for that.
    """
    return (
        "INSERT INTO callback_queues AS q (owner, origin, next_at, set_at, failures, failing) VALUES (?, ?, ?, ?, 0, 0) "
        "ON CONFLICT (owner, origin) DO UPDATE SET "
        "next_at = CASE WHEN q.next_at <= excluded.set_at OR q.next_at <= excluded.next_at OR q.next_at <= q.open_until "
        "THEN q.next_at WHEN q.open_until > excluded.next_at THEN q.open_until ELSE excluded.next_at END, "
        "set_at = CASE WHEN excluded.next_at = '' OR q.set_at > excluded.set_at THEN q.set_at ELSE excluded.set_at END",
        (owner, origin, due, now),
    )


def look_again(owner: str) -> Statement:
    """Let the sender look now at what waits for its next try, because the key `owner` has changed."""
    return ("UPDATE callback_queues SET next_at = '' WHERE owner = ? AND next_at > ''", (owner,))


def attempt(message_id: str, at: str, status: int | None, error: str | None, body: str | None) -> Statement:
    """Keep one try of a delivery, numbered after those before it."""
    return (
        "INSERT INTO callback_attempts (message_id, number, at, status, error, body) "
        "SELECT ?, COALESCE(MAX(number), 0) + 1, ?, CAST(? AS INTEGER), ?, ? FROM callback_attempts WHERE message_id = ?",
        (message_id, at, status, error, body, message_id),
    )
