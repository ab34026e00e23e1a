"""The client's side of the HTTP contract, without input and output: both clients execute it.

An operation is a generator that yields a Request or a Pause, and receives the outcome.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from .documents import Job, Problem, Status, Task
from .errors import Conflict, JobCancelled, JobFailed, StillUnfinished
from .messages import JobOrId, Pause, Request, Steps, parsed, path_of
from .retrying import Policy, retry_after, send

LONG_POLL_SECONDS = 20
PAGE = 100


def submit(
    task: str,
    args: Mapping[str, Any] | None,
    priority: int,
    run_at: datetime | None,
    delay: float | timedelta | None,
    timeout: float | None,
    max_attempts: int | None,
    callback_url: str | None,
    callback_events: Sequence[str],
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
        "callback_url": callback_url,
        "callback_events": list(callback_events) or None,
    }
    body = {
        "task": task,
        "args": dict(args or {}),
        "priority": priority,
        **{name: value for name, value in given.items() if value is not None},
    }
    headers = {"Idempotency-Key": f'"{idempotency_key or uuid4()}"'}
    return parsed(Job.parse, (yield from send(Request("POST", "/jobs", headers=headers, body=body), policy)).json())


def get(job: JobOrId, policy: Policy) -> Steps[Job]:
    return parsed(Job.parse, (yield from send(Request("GET", path_of(job)), policy)).json())


def wait(job: JobOrId, timeout: float | None, policy: Policy) -> Steps[Job]:
    """Long polls until the job has ended. Raises StillUnfinished after `timeout` seconds."""
    deadline = None if timeout is None else policy.clock() + timeout
    while True:
        asked = policy.clock()
        left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, max(0.0, deadline - asked))
        seconds = int(left) if left >= 1 or left == 0 else 1
        request = Request("GET", path_of(job), headers={"Prefer": f"wait={seconds}"}, patience=seconds)
        reply = yield from send(request, policy)
        found = parsed(Job.parse, reply.json())
        if found.status.is_terminal:
            return found
        now = policy.clock()
        if deadline is not None and now >= deadline:
            raise StillUnfinished(found, timeout or 0)
        if now - asked < seconds - 1:  # the service is shutting down and does not wait
            yield Pause(max(retry_after(reply), policy.pause(0)))


def result(job: JobOrId, timeout: float | None, policy: Policy) -> Steps[Any]:
    ended = yield from wait(job, timeout, policy)
    if ended.status is Status.CANCELLED:
        raise JobCancelled(ended)
    if ended.status is Status.FAILED:
        raise JobFailed(ended, ended.error or Problem.parse({}))
    return ended.result


def cancel(job: JobOrId, policy: Policy) -> Steps[Job]:
    """Idempotent. Raises Conflict if the job has ended in another way."""
    try:
        reply = yield from send(Request("DELETE", path_of(job)), policy)
    except Conflict:
        found = yield from get(job, policy)
        if found.status is Status.CANCELLED:
            return found
        raise
    return (yield from get(job, policy)) if reply.status == 204 else parsed(Job.parse, reply.json())


def retry(job: JobOrId, args: Mapping[str, Any] | None, policy: Policy) -> Steps[Job]:
    # A repetition after a lost response would run the job twice.
    body = None if args is None else {"args": dict(args)}
    request = Request("POST", path_of(job, "/retry"), body=body, repeatable=False)
    return parsed(Job.parse, (yield from send(request, policy)).json())


def tasks(policy: Policy) -> Steps[list[Task]]:
    document = (yield from send(Request("GET", "/tasks"), policy)).json()
    return parsed(lambda found: [Task.parse(item) for item in found["items"]], document)


def page(filters: Mapping[str, str], policy: Policy) -> Steps[tuple[list[Job], str | None]]:
    """Return one page of jobs, and the cursor of the next page."""
    document = (yield from send(Request("GET", "/jobs", params=filters), policy)).json()
    jobs = parsed(lambda found: [Job.parse(item) for item in found["items"]], document)
    following = parse_qs(urlsplit(document.get("next") or "").query).get("cursor", [None])[0]
    return jobs, following


def filters(
    status: Status | str | None,
    task: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
    retry_of: JobOrId | None = None,
) -> dict[str, str]:
    given = {
        "status": status and str(status),
        "task": task,
        "created_after": created_after and created_after.isoformat(),
        "created_before": created_before and created_before.isoformat(),
        "retry_of": retry_of.id if isinstance(retry_of, Job) else retry_of,
    }
    return {name: value for name, value in given.items() if value}
