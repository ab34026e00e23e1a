"""Watching the events of one job; resumes after a lost connection."""

import json

from .documents import Event, Job
from .errors import Refused, UnexpectedAnswer, Unreachable, refusal
from .messages import JobOrId, Reply, Request, parsed, path_of
from .retrying import FIRST_PAUSE, LONGEST_PAUSE, Policy, named, problem_of, retry_after


class Watching:
    """Decides what to request, how to read an event, and when to connect again."""

    def __init__(self, job: JobOrId, policy: Policy) -> None:
        self.job = job
        self.over = False
        self.end_missed = False  # the service has no more events, but the last one was not received
        self._policy = policy
        self._last = ""
        self._failures = 0
        self._cut_at: float | None = None
        self._least = 0.0
        self._first = FIRST_PAUSE

    def request(self) -> Request:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last:
            headers["Last-Event-ID"] = self._last
        return Request("GET", path_of(self.job, "/events"), headers=headers)

    def opened(self, reply: Reply) -> bool:
        """Return True if events follow. Raises Refused, UnexpectedAnswer."""
        if reply.status == 200 and reply.headers.get("content-type", "").startswith("text/event-stream"):
            self._cut_at = None
            return True
        if reply.status == 204:
            self.end_missed = True
        elif reply.status in (429, 502, 503, 504):
            error = refusal(problem_of(reply))
            self._least = retry_after(reply)
            self._cut(str(error), error)
        elif reply.status >= 400:
            raise refusal(problem_of(reply))
        else:
            raise UnexpectedAnswer(f"status {reply.status} without an event stream")
        return False

    def read(self, name: str, id_: str, data: str, retry: int | None) -> Event | None:
        """Return the event in these fields, or None if it is not for the caller."""
        if retry is not None:
            self._first = min(retry / 1000, LONGEST_PAUSE)
        if not data:
            return None
        try:
            event = parsed(lambda found: Event.parse(name, id_ or None, found), json.loads(data))
        except ValueError:
            raise UnexpectedAnswer("an event is not JSON") from None
        self._last = id_ or self._last
        self._failures = 0
        if name == "draining":  # this client resumes by itself
            return None
        self.over = event.is_terminal
        return event

    def ended(self, job: Job) -> Event:
        """Return the last event, made from the job."""
        self.over = True
        return Event(job.status.value, None, {}, job=job)

    def broken(self, error: Exception | None) -> None:
        """Record a lost or failed connection. Raises Unreachable if this lasts longer than `patience`."""
        self._cut(f"no events: {'the stream ended' if error is None else named(error)}", None)

    def _cut(self, why: str, refused: Refused | None) -> None:
        now = self._policy.clock()
        if self._cut_at is None:
            self._cut_at = now
        elif now - self._cut_at > self._policy.patience:
            raise refused or Unreachable(why)

    def pause(self) -> float:
        """Return the seconds to wait before the next request."""
        least, self._least = self._least, 0.0
        self._failures += 1
        return max(least, self._policy.pause(self._failures - 1, self._first))
