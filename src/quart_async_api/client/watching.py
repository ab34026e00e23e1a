"""One watch over a job's events, resumed where its connection was cut."""

import json

from .documents import Event, Job
from .errors import Refused, UnexpectedAnswer, Unreachable, refusal
from .messages import JobOrId, Reply, Request, parsed, path_of
from .retrying import FIRST_PAUSE, LONGEST_PAUSE, Policy, named, problem_of, retry_after


class Watching:
    """What to ask for, what an event means, and when to ask again."""

    def __init__(self, job: JobOrId, policy: Policy) -> None:
        self.job = job
        self.over = False
        self.end_missed = False  # the service says that there is no more, but the last event was not seen
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
        """Whether events follow. Raises Refused, UnexpectedAnswer."""
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
            raise UnexpectedAnswer(f"status {reply.status}, and no stream of events")
        return False

    def read(self, name: str, id_: str, data: str, retry: int | None) -> Event | None:
        """The event that these fields make, if it is one for the caller."""
        if retry is not None:
            self._first = min(retry / 1000, LONGEST_PAUSE)
        if not data:
            return None
        try:
            event = parsed(lambda found: Event.parse(name, id_ or None, found), json.loads(data))
        except ValueError:
            raise UnexpectedAnswer("an event that is no JSON") from None
        self._last = id_ or self._last
        self._failures = 0
        if name == "draining":  # to be resumed, by this client itself
            return None
        self.over = event.is_terminal
        return event

    def ended(self, job: Job) -> Event:
        """The last event, made from the job."""
        self.over = True
        return Event(job.status.value, None, {}, job=job)

    def broken(self, error: Exception | None) -> None:
        """The connection was cut, or not made. Raises Unreachable when that lasts longer than one has patience."""
        self._cut(f"no events: {'the stream ended' if error is None else named(error)}", None)

    def _cut(self, why: str, refused: Refused | None) -> None:
        now = self._policy.clock()
        if self._cut_at is None:
            self._cut_at = now
        elif now - self._cut_at > self._policy.patience:
            raise refused or Unreachable(why)

    def pause(self) -> float:
        """Seconds before the next request."""
        least, self._least = self._least, 0.0
        self._failures += 1
        return max(least, self._policy.pause(self._failures - 1, self._first))
