"""The operations of operators, without input and output, like those of protocol.py."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

from .documents import Callback, Job, Task, Worker
from .messages import JobOrId, Request, Steps, parsed, path_of
from .retrying import Policy, send


def pause(task: str, policy: Policy) -> Steps[Task]:
    return _changed(task, "pause", policy)


def resume(task: str, policy: Policy) -> Steps[Task]:
    return _changed(task, "resume", policy)


def _changed(task: str, change: str, policy: Policy) -> Steps[Task]:
    return parsed(Task.parse, (yield from send(Request("POST", _path(task, change)), policy)).json())


def run(task: str, policy: Policy) -> Steps[Job]:
    request = Request("POST", _path(task, "run"), headers=_once())
    return parsed(Job.parse, (yield from send(request, policy)).json())


def count(action: str, filters: Mapping[str, str], policy: Policy) -> Steps[int]:
    body = {"action": action, "filter": dict(filters), "dry_run": True}
    document = (yield from send(Request("POST", "/jobs/bulk", body=body), policy)).json()
    return parsed(lambda found: int(found["matching"]), document)


def bulk(action: str, filters: Mapping[str, str], policy: Policy) -> Steps[Job]:
    body = {"action": action, "filter": dict(filters)}
    request = Request("POST", "/jobs/bulk", headers=_once(), body=body)
    return parsed(Job.parse, (yield from send(request, policy)).json())


def workers(policy: Policy) -> Steps[list[Worker]]:
    document = (yield from send(Request("GET", "/workers"), policy)).json()
    return parsed(lambda found: [Worker.parse(item) for item in found["items"]], document)


def callbacks(query: Mapping[str, str], policy: Policy) -> Steps[tuple[list[Callback], str | None]]:
    """Return one page of callbacks, and the cursor of the next page."""
    document = (yield from send(Request("GET", "/callbacks", params=query), policy)).json()
    found = parsed(lambda page: [Callback.parse(item) for item in page["items"]], document)
    return found, parse_qs(urlsplit(document.get("next") or "").query).get("cursor", [None])[0]


def replay(job: JobOrId, callback_id: str, policy: Policy) -> Steps[None]:
    yield from send(Request("POST", path_of(job, f"/callbacks/{quote(callback_id, safe='')}/replay")), policy)


def _path(task: str, change: str) -> str:
    return f"/tasks/{quote(task, safe='')}/{change}"


def _once() -> dict[str, Any]:
    return {"Idempotency-Key": f'"{uuid4()}"'}
