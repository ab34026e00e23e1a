"""The client's half of the HTTP contract, with no input or output of its own: both clients do what is decided here.

An operation is a generator that yields what to do, a Request or a Pause, and is sent what came of it.
"""

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

from .documents import Event, Job, Problem, Status, Task
from .errors import (
    Conflict,
    JobCancelled,
    JobFailed,
    Refused,
    StillUnfinished,
    UnexpectedAnswer,
    Unreachable,
    refusal,
)

T = TypeVar("T")
JobOrId = Job | str

LONG_POLL_SECONDS = 20
STREAM_SILENCE_SECONDS = 45.0  # three of the service's comments missed: the connection is dead
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
PAGE = 100


@dataclass(frozen=True, slots=True)
class Request:
    """`repeatable`: it may be sent again when it is not known whether the first one was done."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    patience: float = 0.0  # seconds that the answer may take beyond the usual


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise UnexpectedAnswer(f"status {self.status} with a body that is no JSON") from None


@dataclass(frozen=True, slots=True)
class Broken:
    """No reply came. `sent`: the request may have arrived."""

    error: Exception
    sent: bool


Steps = Generator[Request | Pause, Reply | Broken | None, T]


@dataclass(frozen=True, slots=True)
class Policy:
    """For how many seconds the service may be away before the client gives up, and how it waits meanwhile."""

    patience: float = 30.0
    clock: Callable[[], float] = time.monotonic
    randomness: random.Random = field(default_factory=random.SystemRandom)

    def pause(self, failures: int, first: float = FIRST_PAUSE) -> float:
        """Exponential with full jitter: those who were cut off together do not come back together."""
        return self.randomness.uniform(0, min(LONGEST_PAUSE, first * 2 ** min(failures, 16)))


def send(request: Request, policy: Policy) -> Steps[Reply]:
    """The reply to a request that succeeded, repeated while that is safe and may help. Raises Refused, Unreachable."""
    deadline: float | None = None
    failures = 0
    while True:
        answer = yield request
        least = 0.0
        if isinstance(answer, Reply):
            if answer.status < 400:
                return answer
            problem = problem_of(answer)
            error: Refused | Unreachable = refusal(problem)
            again = _nothing_was_done(problem) or (request.repeatable and problem.status in (502, 504))
            least = retry_after(answer)
        elif isinstance(answer, Broken):
            error = Unreachable(f"no answer: {_named(answer.error)}")
            again = request.repeatable or not answer.sent
        else:
            raise TypeError("a request is answered with a Reply or a Broken")
        deadline = policy.clock() + policy.patience if deadline is None else deadline
        pause = max(least, policy.pause(failures))
        if not again or policy.clock() + pause > deadline:
            raise error
        failures += 1
        yield Pause(pause)


def _named(error: Exception) -> str:
    return str(error) or type(error).__name__


def _nothing_was_done(problem: Problem) -> bool:
    return problem.status in (429, 503) or problem.type == "/problems/idempotency-key-in-flight"


def problem_of(reply: Reply) -> Problem:
    try:
        document = json.loads(reply.body)
        if isinstance(document, dict):
            return Problem.parse(document, reply.status)
    except (ValueError, KeyError, TypeError):
        pass  # a proxy's page
    return Problem("about:blank", f"status {reply.status}", reply.status, "the answer says no more", (), None, {})


def retry_after(reply: Reply) -> float:
    value = reply.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0


def _read(parse: Callable[[Mapping[str, Any]], T], document: Any) -> T:
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"not as this service answers: {error!r}") from error


def path_of(job: JobOrId, rest: str = "") -> str:
    return f"/jobs/{quote(job if isinstance(job, str) else job.id, safe='')}{rest}"


def submit(
    task: str,
    args: Mapping[str, Any] | None,
    priority: int,
    run_at: datetime | None,
    delay: float | timedelta | None,
    timeout: float | None,
    max_attempts: int | None,
    idempotency_key: str | None,
    policy: Policy,
) -> Steps[Job]:
    if run_at is not None and run_at.tzinfo is None:
        raise ValueError("run_at needs a zone")
    given: dict[str, Any] = {
        "run_at": run_at and run_at.isoformat(),
        "delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
        "timeout": timeout,
        "max_attempts": max_attempts,
    }
    body = {
        "task": task,
        "args": dict(args or {}),
        "priority": priority,
        **{name: value for name, value in given.items() if value is not None},
    }
    headers = {"Idempotency-Key": f'"{idempotency_key or uuid4()}"'}
    return _read(Job.parse, (yield from send(Request("POST", "/jobs", headers=headers, body=body), policy)).json())


def get(job: JobOrId, policy: Policy) -> Steps[Job]:
    return _read(Job.parse, (yield from send(Request("GET", path_of(job)), policy)).json())


def wait(job: JobOrId, timeout: float | None, policy: Policy) -> Steps[Job]:
    """Long polls until the job has ended. Raises StillUnfinished after `timeout` seconds."""
    deadline = None if timeout is None else policy.clock() + timeout
    while True:
        asked = policy.clock()
        left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, max(0.0, deadline - asked))
        seconds = int(left) if left >= 1 or left == 0 else 1
        request = Request("GET", path_of(job), headers={"Prefer": f"wait={seconds}"}, patience=seconds)
        reply = yield from send(request, policy)
        found = _read(Job.parse, reply.json())
        if found.status.is_terminal:
            return found
        now = policy.clock()
        if deadline is not None and now >= deadline:
            raise StillUnfinished(found, timeout or 0)
        if now - asked < seconds - 1:  # it does not hold answers now: it is stopping
            yield Pause(max(retry_after(reply), policy.pause(0)))


def result(job: JobOrId, timeout: float | None, policy: Policy) -> Steps[Any]:
    ended = yield from wait(job, timeout, policy)
    if ended.status is Status.CANCELLED:
        raise JobCancelled(ended)
    if ended.status is Status.FAILED:
        raise JobFailed(ended, ended.error or Problem.parse({}))
    return ended.result


def cancel(job: JobOrId, policy: Policy) -> Steps[Job]:
    """Asked twice is as once. Raises Conflict where it has ended otherwise."""
    try:
        reply = yield from send(Request("DELETE", path_of(job)), policy)
    except Conflict:
        found = yield from get(job, policy)
        if found.status is Status.CANCELLED:
            return found
        raise
    return (yield from get(job, policy)) if reply.status == 204 else _read(Job.parse, reply.json())


def retry(job: JobOrId, policy: Policy) -> Steps[Job]:
    # Sent again after a lost answer it would run twice.
    request = Request("POST", path_of(job, "/retry"), repeatable=False)
    return _read(Job.parse, (yield from send(request, policy)).json())


def tasks(policy: Policy) -> Steps[list[Task]]:
    document = (yield from send(Request("GET", "/tasks"), policy)).json()
    return _read(lambda found: [Task.parse(item) for item in found["items"]], document)


def page(filters: Mapping[str, str], policy: Policy) -> Steps[tuple[list[Job], str | None]]:
    """Some jobs, and the cursor of the next ones."""
    document = (yield from send(Request("GET", "/jobs", params=filters), policy)).json()
    jobs = _read(lambda found: [Job.parse(item) for item in found["items"]], document)
    following = parse_qs(urlsplit(document.get("next") or "").query).get("cursor", [None])[0]
    return jobs, following


def filters(
    status: Status | str | None, task: str | None, created_after: datetime | None, created_before: datetime | None
) -> dict[str, str]:
    given = {
        "status": status and str(status),
        "task": task,
        "created_after": created_after and created_after.isoformat(),
        "created_before": created_before and created_before.isoformat(),
    }
    return {name: value for name, value in given.items() if value}


class Watching:
    """One watch over a job: what to ask for, what an event means, and when to ask again."""

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
            event = _read(lambda found: Event.parse(name, id_ or None, found), json.loads(data))
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
        self._cut(f"no events: {'the stream ended' if error is None else _named(error)}", None)

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
