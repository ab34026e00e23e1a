"""When the client repeats a request, and how long it waits before."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .documents import Problem
from .errors import Refused, Unreachable, refusal
from .messages import Broken, Pause, Reply, Request, Steps

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Retry policy: give up after `patience` seconds."""

    patience: float = 30.0
    clock: Callable[[], float] = time.monotonic
    randomness: random.Random = field(default_factory=random.SystemRandom)

    def pause(self, failures: int, first: float = FIRST_PAUSE) -> float:
        """Return a pause in seconds, exponential with full jitter, so that clients do not return all at once."""
        return self.randomness.uniform(0, min(LONGEST_PAUSE, first * 2 ** min(failures, 16)))


def send(request: Request, policy: Policy) -> Steps[Reply]:
    """Send a request until it succeeds, as long as a repetition is safe and may help. Raises Refused, Unreachable."""
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
            error = Unreachable(f"no response: {named(answer.error)}")
            again = request.repeatable or not answer.sent
        else:
            raise TypeError("expected a Reply or a Broken")
        deadline = policy.clock() + policy.patience if deadline is None else deadline
        pause = max(least, policy.pause(failures))
        if not again or policy.clock() + pause > deadline:
            raise error
        failures += 1
        yield Pause(pause)


def named(error: Exception) -> str:
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
    return Problem("about:blank", f"status {reply.status}", reply.status, "the response has no details", (), None, {})


def retry_after(reply: Reply) -> float:
    value = reply.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0
