"""What operators see and do through the routes: workers, callbacks of all jobs, retries with other arguments."""

import logging
import os
import socket
from typing import cast

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from tests.each import each
from tests.secrets import secret

from .conftest import Document, Watch, ended, running, started
from .job_tasks import gate


async def make_key(app: Quart, name: str, *scopes: Scope) -> dict[str, str]:
    """The header of a new key."""
    return {"Authorization": f"Bearer {secret((await parts_of(app).keys.create(name, scopes))[1])}"}


async def test_workers_are_listed_with_what_they_run(jobs: QuartClient, job_app: Quart, watch: Watch) -> None:
    job = await running(jobs, watch, "listed")
    [worker] = (await (await jobs.get("/workers")).get_json())["items"]
    assert worker == {
        "id": parts_of(job_app).presence.id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "engine": "embedded",
        "started_at": worker["started_at"],
        "last_beat_at": worker["last_beat_at"],
        "running": [job["id"]],
    }
    await parts_of(job_app).presence.heartbeat.work()
    [later] = (await (await jobs.get("/workers")).get_json())["items"]
    assert later["last_beat_at"] > worker["last_beat_at"] >= worker["started_at"]
    gate("listed").set()
    await ended(jobs, job)
    [idle] = (await (await jobs.get("/workers")).get_json())["items"]
    assert idle["running"] == []


async def test_only_an_admin_operates_the_service(jobs: QuartClient, job_app: Quart) -> None:
    alice, root = await make_key(job_app, "alice"), await make_key(job_app, "root", Scope.ADMIN)
    assert (await jobs.get("/workers", headers=alice)).status_code == 403
    assert (await jobs.get("/workers", headers=root)).status_code == 200
    for what, status in (("pause", 200), ("resume", 200), ("run", 202)):
        assert (await jobs.post(f"/tasks/rarely/{what}", headers=alice)).status_code == 403
        assert (await jobs.post(f"/tasks/rarely/{what}", headers=root)).status_code == status


async def retry(client: QuartClient, job: Document, **given: object) -> Document:
    response = await client.post(f"{job['links']['self']}/retry", **given)
    assert response.status_code == 202, await response.get_data()
    return cast("Document", await response.get_json())


async def test_any_ended_job_runs_again_with_other_arguments(jobs: QuartClient) -> None:
    first = await started(jobs, "repeat", args={"value": 1}, priority=7)
    assert (await ended(jobs, first))["result"] == 1
    assert (await jobs.post(f"{first['links']['self']}/retry")).status_code == 409  # it has succeeded
    assert (await jobs.post(f"{first['links']['self']}/retry", json={})).status_code == 409
    again = await retry(jobs, first, json={"args": {"value": 2}})
    assert again["links"]["retry_of"] == first["links"]["self"]
    assert again["priority"] == 7
    assert (await ended(jobs, again))["result"] == 2

    for args, pointer in (({}, "#/args/value"), ({"value": 1, "more": 2}, "#/args/more")):
        refused = await jobs.post(f"{first['links']['self']}/retry", json={"args": args})
        assert refused.status_code == 422
        assert [error["pointer"] for error in (await refused.get_json())["errors"]] == [pointer]
    misspelt = await jobs.post(f"{first['links']['self']}/retry", json={"arguments": {}})
    assert [error["pointer"] for error in (await misspelt.get_json())["errors"]] == ["#/arguments"]


async def test_a_job_that_has_not_ended_is_not_run_again_with_other_arguments(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "busy")
    response = await jobs.post(f"{job['links']['self']}/retry", json={"args": {"name": "other"}})
    assert response.status_code == 409
    gate("busy").set()
    await ended(jobs, job)


async def test_the_jobs_that_a_job_was_retried_as_are_listed(jobs: QuartClient) -> None:
    first = await started(jobs, "raises")
    await ended(jobs, first)
    await started(jobs, "test")  # of no interest
    retries = [await retry(jobs, first) for _ in range(3)]
    of_a_retry = await retry(jobs, await ended(jobs, retries[0]))
    address, listed = f"/jobs?retry_of={first['id']}&limit=2", []
    while address:
        page = await (await jobs.get(address)).get_json()
        listed += [job["id"] for job in page["items"]]
        address = page["next"]
    assert listed == [job["id"] for job in reversed(retries)]
    [last] = (await (await jobs.get(f"/jobs?retry_of={retries[0]['id']}")).get_json())["items"]
    assert last["id"] == of_a_retry["id"]


async def test_a_job_of_another_key_is_not_run_again_and_an_admins_retry_leaves_it_to_its_owner(
    jobs: QuartClient, job_app: Quart, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quart_async_api.audit")
    alice, bob = await make_key(job_app, "alice"), await make_key(job_app, "bob")
    root = await make_key(job_app, "root", Scope.ADMIN)
    response = await jobs.post(
        "/jobs", json={"task": "repeat", "args": {"value": 1}}, headers={**alice, "Prefer": "wait=30"}
    )
    job = await response.get_json()
    address, wish = f"{job['links']['self']}/retry", {"args": {"value": 2}}
    assert (await jobs.post(address, json=wish, headers=bob)).status_code == 404
    again = await retry(jobs, job, json=wish, headers=root)
    assert (await jobs.get(again["links"]["self"], headers=alice)).status_code == 200
    assert (await jobs.get(f"/jobs?retry_of={job['id']}", headers=alice)).status_code == 200
    assert (await (await jobs.get(f"/jobs?retry_of={job['id']}", headers=bob)).get_json())["items"] == []
    [line] = [vars(record) for record in caplog.records if vars(record).get("action") == "job.retry"]
    assert (line["key_name"], line["target"]) == ("root", job["id"])


async def described(client: QuartClient, name: str, **headers: str) -> Document:
    items = (await (await client.get("/tasks", headers=headers)).get_json())["items"]
    return next(item for item in items if item["name"] == name)


async def test_a_task_is_paused_and_resumed(jobs: QuartClient) -> None:
    assert (await described(jobs, "test"))["paused_at"] is None
    paused = await jobs.post("/tasks/test/pause")
    assert paused.status_code == 200
    assert await paused.get_json() == await described(jobs, "test")
    first = (await described(jobs, "test"))["paused_at"]
    await jobs.post("/tasks/test/pause")
    assert (await described(jobs, "test"))["paused_at"] == first

    waited = await jobs.get("/test")  # there is no job that could wait
    assert waited.status_code == 503
    assert int(waited.headers["Retry-After"]) > 0
    assert (await waited.get_json())["type"] == "/problems/task-paused"
    accepted = await jobs.get("/test", headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    assert (await jobs.get("/get")).status_code == 200  # of another task

    resumed = await jobs.post("/tasks/test/resume")
    assert (await resumed.get_json())["paused_at"] is None
    assert (await ended(jobs, await accepted.get_json()))["status"] == "succeeded"
    assert (await jobs.get("/test")).status_code == 200


async def test_a_scheduled_task_is_started_now(jobs: QuartClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quart_async_api.audit")
    before = await described(jobs, "rarely")
    assert (before["schedule"], before["last_run_at"]) == ("0 0 29 2 *", None)
    assert before["next_run_at"].endswith("-02-29T00:00:00.000000Z")
    response = await jobs.post("/tasks/rarely/run", headers={"Idempotency-Key": "once"})
    assert response.status_code == 202
    job = await response.get_json()
    assert (job["task"], response.headers["Location"]) == ("rarely", job["links"]["self"])
    assert (await ended(jobs, job))["result"] == "as scheduled"
    assert (await described(jobs, "rarely"))["last_run_at"] == job["created_at"]
    again = await jobs.post("/tasks/rarely/run", headers={"Idempotency-Key": "once"})
    assert (await again.get_json())["id"] == job["id"]
    [line] = [vars(record) for record in caplog.records if vars(record).get("action") == "task.run"]
    assert line["target"] == "rarely"
    assert (await jobs.post("/tasks/test/run")).status_code == 409  # it has no schedule
    for what in ("pause", "resume", "run"):
        assert (await jobs.post(f"/tasks/unknown/{what}")).status_code == 404


async def test_many_jobs_are_counted_then_cancelled_then_retried(
    jobs: QuartClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quart_async_api.audit")
    queued = [await started(jobs, "repeat", args={"value": 1}, delay=60) for _ in range(3)]
    await started(jobs, "test", delay=60)
    wish = {"action": "cancel", "filter": {"task": "repeat", "status": "queued"}}
    caplog.clear()
    dry = await jobs.post("/jobs/bulk", json=wish | {"dry_run": True})
    assert (dry.status_code, await dry.get_json()) == (200, {"matching": 3})
    assert caplog.records == []  # nothing has changed

    response = await jobs.post("/jobs/bulk", json=wish, headers={"Idempotency-Key": "once"})
    assert response.status_code == 202
    job = await response.get_json()
    assert response.headers["Location"] == job["links"]["self"]
    assert (await ended(jobs, job))["result"] == {"matched": 3, "done": 3, "skipped": 0}
    for old in queued:
        assert (await (await jobs.get(old["links"]["self"])).get_json())["status"] == "cancelled"
    [line] = [vars(record) for record in caplog.records if vars(record).get("action") == "job.bulk"]
    assert line["target"] == job["id"]
    again = await jobs.post("/jobs/bulk", json=wish, headers={"Idempotency-Key": "once"})
    assert (await again.get_json())["id"] == job["id"]

    retried = await jobs.post("/jobs/bulk", json={"action": "retry", "filter": {"task": "repeat"}})
    assert (await ended(jobs, await retried.get_json()))["result"]["done"] == 3
    for old in queued:
        [one] = (await (await jobs.get(f"/jobs?retry_of={old['id']}")).get_json())["items"]
        assert one["links"]["retry_of"] == old["links"]["self"]


@each(
    ("wish", "pointer"),
    [
        ({"action": "cancel"}, "#/filter"),
        ({"action": "cancel", "filter": {"owner": "alice"}}, "#/filter/owner"),
        ({"action": "cancel", "filter": {"status": "failed"}}, "#/filter/status"),
        ({"action": "retry", "filter": {"status": "succeeded"}}, "#/filter/status"),
        ({"action": "retry", "filter": {"created_after": "yesterday"}}, "#/filter/created_after"),
        ({"action": "delete", "filter": {}}, "#/action"),
        ({"action": "retry", "filter": {}, "dry_run": "yes"}, "#/dry_run"),
    ],
)
async def test_a_bulk_job_that_cannot_be_is_refused(jobs: QuartClient, wish: Document, pointer: str) -> None:
    response = await jobs.post("/jobs/bulk", json=wish)
    assert response.status_code == 422
    assert [error["pointer"] for error in (await response.get_json())["errors"]] == [pointer]


async def test_a_key_changes_many_jobs_of_its_own_alone(jobs: QuartClient, job_app: Quart) -> None:
    reader, alice = await make_key(job_app, "reader", Scope.READ), await make_key(job_app, "alice")
    root = await make_key(job_app, "root", Scope.ADMIN)
    for headers in (alice, root):
        await jobs.post("/jobs", json={"task": "test", "delay": 60}, headers=headers)
    wish: Document = {"action": "cancel", "filter": {}, "dry_run": True}
    assert (await jobs.post("/jobs/bulk", json=wish, headers=reader)).status_code == 403
    assert await (await jobs.post("/jobs/bulk", json=wish, headers=alice)).get_json() == {"matching": 1}
    assert await (await jobs.post("/jobs/bulk", json=wish, headers=root)).get_json() == {"matching": 2}
