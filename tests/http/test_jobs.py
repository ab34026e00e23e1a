"""Jobs as a resource: started, listed, read, cancelled, run again, and gone."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.http.parts import parts_of
from quart_async_api.moments import timestamp
from tests.each import each

from . import job_tasks
from .conftest import Watch, all_jobs, ended, running, started
from .job_tasks import RUNS, gate

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"
MEMBERS = {
    "id",
    "task",
    "status",
    "args",
    "priority",
    "progress",
    "attempt",
    "max_attempts",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "expires_at",
    "cancel_requested_at",
    "links",
}


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


# Starting


async def test_any_task_can_be_started_as_a_job(jobs: QuartClient) -> None:
    response = await jobs.post("/jobs", json={"task": "long", "args": {"size": 3}})
    job = await response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == job["links"]["self"]
    assert "Retry-After" in response.headers
    assert "Preference-Applied" not in response.headers
    assert set(job) == MEMBERS
    assert (job["args"], job["priority"], job["attempt"], job["max_attempts"]) == ({"size": 3}, 0, 0, 1)
    assert job["created_at"] == job["run_at"]
    assert len(job["created_at"]) == len("2026-01-01T00:00:00.000000Z")
    done = await ended(jobs, job)
    assert set(done) == MEMBERS | {"result", "attempts"}
    assert done["result"] == "xxx"
    assert done["created_at"] <= done["started_at"] <= done["finished_at"] < done["expires_at"]
    [attempt] = done["attempts"]
    assert attempt == {
        "number": 1,
        "started_at": done["started_at"],
        "finished_at": done["finished_at"],
        "outcome": "succeeded",
        "error": None,
    }


async def test_how_a_job_runs_can_be_told(jobs: QuartClient) -> None:
    job = await started(jobs, "test", priority=100, timeout=1.5, max_attempts=7, run_at="2000-01-01T00:00:00+02:00")
    assert (job["priority"], job["max_attempts"]) == (100, 7)
    assert job["run_at"] == job["created_at"]
    assert (await ended(jobs, job))["status"] == "succeeded"


async def test_a_run_at_with_a_zone_and_a_delay_hold_a_job_back(jobs: QuartClient) -> None:
    wanted = in_seconds(20 * 86_400).replace(microsecond=0)
    zoned = wanted.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    assert (await started(jobs, "test", run_at=zoned))["run_at"] == timestamp(wanted)
    delayed = await started(jobs, "test", delay=3600)
    assert timestamp(in_seconds(3500)) < delayed["run_at"] < timestamp(in_seconds(3700))


async def test_a_timeout_of_the_caller_is_per_attempt(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "held", args={"name": "timed"}, timeout=0.01))
    assert (job["status"], job["error"]["status"]) == ("failed", 504)
    assert job["error"]["type"] == "/problems/task-timeout"


@pytest.mark.parametrize("prefer", ["wait=30", "respond-async, wait=30"])
@pytest.mark.parametrize(("task", "status"), [("test", "succeeded"), ("raises", "failed")])
async def test_a_job_that_ended_within_the_wait_answers_200_with_its_document(
    jobs: QuartClient, task: str, status: str, prefer: str
) -> None:
    response = await jobs.post("/jobs", json={"task": task}, headers={"Prefer": prefer})
    job = await response.get_json()
    assert (response.status_code, job["status"]) == (200, status)
    assert response.headers["Preference-Applied"] == prefer
    assert response.headers["Link"] == f'<{job["links"]["self"]}>; rel="monitor"'


async def test_a_job_that_did_not_answers_202(jobs: QuartClient) -> None:
    response = await jobs.post("/jobs", json={"task": "test", "delay": 60}, headers={"Prefer": "wait=0"})
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=0"


@each(
    ("members", "pointers"),
    [
        ({}, ["#/task"]),
        ({"task": "nothing"}, ["#/task"]),
        ({"task": 1}, ["#/task"]),
        ({"task": None}, ["#/task"]),
        ({"task": "test", "args": {"x": 1}}, ["#/args/x"]),
        ({"task": "test", "args": [1]}, ["#/args"]),
        ({"task": "held"}, ["#/args/name"]),
        (
            {"task": "held", "args": {"name": 1, "steps": "x", "a/b~": 1}},
            ["#/args/name", "#/args/steps", "#/args/a~1b~0"],
        ),
        ({"task": "comic", "args": {"num": [1, 0]}}, ["#/args/num/1"]),
        ({"task": "test", "nonsense": 1}, ["#/nonsense"]),
        ({"task": "test", "priority": 101}, ["#/priority"]),
        ({"task": "test", "priority": -101}, ["#/priority"]),
        ({"task": "test", "priority": 1.5}, ["#/priority"]),
        ({"task": "test", "priority": "1"}, ["#/priority"]),
        ({"task": "test", "delay": -1}, ["#/delay"]),
        ({"task": "test", "delay": "soon"}, ["#/delay"]),
        ({"task": "test", "delay": True}, ["#/delay"]),
        ({"task": "test", "delay": 1e300}, ["#/delay"]),
        ({"task": "test", "timeout": 0}, ["#/timeout"]),
        ({"task": "test", "timeout": -1}, ["#/timeout"]),
        ({"task": "test", "max_attempts": 0}, ["#/max_attempts"]),
        ({"task": "test", "max_attempts": 101}, ["#/max_attempts"]),
        ({"task": "test", "run_at": "2030-01-01T00:00:00"}, ["#/run_at"]),
        ({"task": "test", "run_at": "tomorrow"}, ["#/run_at"]),
        ({"task": "test", "run_at": "0001-01-01T00:00:00+23:59"}, ["#/run_at"]),
        ({"task": "test", "run_at": "9999-12-31T23:59:59-23:59"}, ["#/run_at"]),
        ({"task": "test", "run_at": "2030-01-01T00:00:00Z", "delay": 1}, ["#/delay"]),
    ],
)
async def test_what_does_not_fit_is_refused_now_field_by_field(
    jobs: QuartClient, members: dict[str, Any], pointers: list[str]
) -> None:
    for headers in ({}, {"Prefer": "respond-async, wait=1"}, {"Accept": "text/event-stream"}):
        response = await jobs.post("/jobs", json=members, headers=headers)
        assert response.status_code == 422
        assert [error["pointer"] for error in (await response.get_json())["errors"]] == pointers
        assert {"prefer", "accept"} <= {name.lower() for name in response.vary}
    assert await all_jobs(jobs) == []


async def test_arguments_that_are_too_long_are_refused(job_settings: Settings) -> None:
    app = create_app(job_settings.model_copy(update={"result_max_bytes": 1024}), tasks=[job_tasks])
    async with app.test_app():
        response = await app.test_client().post("/jobs", json={"task": "held", "args": {"name": "x" * 1024}})
        assert response.status_code == 422
        assert (await response.get_json())["errors"][0]["pointer"] == "#/args"


async def test_the_tasks_are_described(jobs: QuartClient) -> None:
    items = {task["name"]: task for task in (await (await jobs.get("/tasks")).get_json())["items"]}
    assert {"get", "test", "start-task", "gather", "mock-db", "external-api", "comic"} <= items.keys()
    assert set(items["second-time"]) >= {
        "name",
        "summary",
        "args_schema",
        "result_schema",
        "retries",
        "backoff",
        "timeout",
        "run_in",
    }
    assert (items["second-time"]["retries"], items["late"]["timeout"], items["test"]["run_in"]) == (1, 0.01, "loop")
    assert items["test"]["queue"] == "default"
    assert items["second-time"]["backoff"] == {"initial": 0, "factor": 2, "maximum": 300}
    assert items["held"]["args_schema"]["required"] == ["name"]
    assert items["untyped"]["result_schema"] == {"type": "integer"}


# The list


async def test_the_list_is_newest_first_and_paged(jobs: QuartClient) -> None:
    made = [(await started(jobs, "test", delay=60))["id"] for _ in range(5)]
    found: list[str] = []
    first = "http://localhost/jobs?task=test&limit=2"
    following: str | None = "/jobs?task=test&limit=2"
    while following:
        response = await jobs.get(following)
        page = await response.get_json()
        links = [f'<{page["next"]}>; rel="next"'] if page["next"] else []
        assert response.headers["Link"] == ", ".join([*links, f'<{first}>; rel="first"'])
        found += [job["id"] for job in page["items"]]
        following = page["next"] and "?".join(urlsplit(page["next"])[2:4])
    assert found == made[::-1]


async def test_the_list_can_be_filtered(jobs: QuartClient) -> None:
    first = await started(jobs, "test", delay=60)
    second = await ended(jobs, await started(jobs, "long", args={"size": 1}))

    async def ids(**query: str) -> list[str]:
        response = await jobs.get("/jobs", query_string=query)
        assert response.status_code == 200
        return [job["id"] for job in (await response.get_json())["items"]]

    assert await ids(status="queued") == await ids(task="test") == [first["id"]]
    assert await ids(status="succeeded") == await ids(task="long") == [second["id"]]
    assert await ids(created_after=first["created_at"]) == [second["id"]]
    assert await ids(created_before=second["created_at"]) == [first["id"]]
    assert await ids(status="failed") == await ids(task="nothing") == []
    assert await ids(created_before=second["created_at"].replace("Z", "+00:00"), status="queued") == [first["id"]]


async def test_a_cursor_belongs_to_its_filters(jobs: QuartClient) -> None:
    for _ in range(3):
        await started(jobs, "test", delay=60)
    page = await (await jobs.get("/jobs?limit=1&status=queued")).get_json()
    following = "?".join(urlsplit(page["next"])[2:4])
    assert (await jobs.get(following)).status_code == 200
    assert (await jobs.get(following.replace("status=queued", "status=failed"))).status_code == 422
    assert (await jobs.get(following.replace("status=queued", "task=test"))).status_code == 422


@each(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%FF%00", "cursor"),
        ("status=done", "status"),
        ("task=%00", "task"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:59", "created_before"),
    ],
)
async def test_bad_filters_are_told(jobs: QuartClient, query: str, pointer: str) -> None:
    response = await jobs.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert [error["pointer"] for error in (await response.get_json())["errors"]] == [f"#/{pointer}"]


async def test_a_page_holds_25_by_default_and_100_at_most(jobs: QuartClient) -> None:
    await asyncio.gather(*(started(jobs, "test", delay=60) for _ in range(101)))
    assert len((await (await jobs.get("/jobs")).get_json())["items"]) == 25
    assert len((await (await jobs.get("/jobs?limit=100")).get_json())["items"]) == 100


# The monitor


async def test_the_monitor_of_an_unfinished_job_says_when_to_ask_again(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "monitor")
    response = await jobs.get(job["links"]["self"])
    document = await response.get_json()
    assert (response.status_code, document["status"], document["attempt"]) == (200, "running", 1)
    assert document["progress"] == {"current": 1, "total": 2, "percent": 50, "message": "waiting"}
    assert document["attempts"] == []
    assert int(response.headers["Retry-After"]) >= 1
    same = await jobs.get(job["links"]["self"], headers={"If-None-Match": response.headers["ETag"]})
    assert same.status_code == 304
    assert same.headers["ETag"] == response.headers["ETag"]
    gate("monitor").set()
    held = await jobs.get(
        job["links"]["self"], headers={"If-None-Match": response.headers["ETag"], "Prefer": "wait=30"}
    )
    assert (held.status_code, (await held.get_json())["status"]) == (200, "succeeded")
    assert held.headers["Preference-Applied"] == "wait=30"
    assert "Retry-After" not in held.headers
    assert held.headers["ETag"] != response.headers["ETag"]


async def test_the_etag_changes_with_whatever_the_document_shows(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "etag")
    before = (await jobs.get(job["links"]["self"])).headers["ETag"]
    assert (await jobs.delete(job["links"]["self"])).status_code == 202
    assert (await jobs.get(job["links"]["self"])).headers["ETag"] != before


async def test_the_monitor_of_a_failed_job_is_200(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "raises"))
    assert (job["status"], job["error"]["type"], job["error"]["status"]) == ("failed", "/problems/task-failed", 500)
    assert "result" not in job
    assert job["attempts"][0]["error"] == job["error"]


async def test_each_attempt_is_kept(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "second-time"))
    assert (job["status"], job["result"], job["attempt"], job["max_attempts"]) == ("succeeded", 2, 2, 2)
    assert [(one["number"], one["outcome"]) for one in job["attempts"]] == [(1, "failed"), (2, "succeeded")]
    assert job["attempts"][0]["error"]["status"] == 500


async def test_a_long_result_is_in_the_monitor_alone(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "long"))
    assert len(job["result"]) == 20_000
    [listed] = await all_jobs(jobs)
    assert listed["result_omitted"] is True
    assert "result" not in listed
    assert "attempts" not in listed
    text = await (await jobs.get(job["links"]["events"])).get_data(as_text=True)
    assert '"result_omitted": true' in text
    assert len(text) < 10_000
    assert await (await jobs.get(job["links"]["result"])).get_json() == "x" * 20_000


@each("suffix", ["", "/result", "/events"])
@each("job_id", [UNKNOWN, "1", UNKNOWN.upper(), "%00", "%F0%9F%98%80", "x" * 1000])
async def test_an_unknown_job_is_not_found(jobs: QuartClient, job_id: str, suffix: str) -> None:
    response = await jobs.get(f"/jobs/{job_id}{suffix}")
    assert response.status_code == 404
    assert (await response.get_json())["type"] == "/problems/job-not-found"


async def test_nothing_can_be_done_to_an_unknown_job(jobs: QuartClient) -> None:
    for response in (await jobs.delete(f"/jobs/{UNKNOWN}"), await jobs.post(f"/jobs/{UNKNOWN}/retry")):
        assert response.status_code == 404


async def test_an_expired_job_is_gone_and_says_what_is_left(job_app: Quart, jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    parts = parts_of(job_app)
    assert await parts.store.retention.expire(timestamp(in_seconds(30 * 86_400)), 60) == 1
    address = job["links"]["self"]
    for response in (
        await jobs.get(address),
        await jobs.get(f"{address}/result"),
        await jobs.get(f"{address}/events"),
        await jobs.delete(address),
        await jobs.post(f"{address}/retry"),
        await jobs.get("/test", headers={"Accept": "text/event-stream", "Last-Event-ID": f"{job['id']}:1"}),
    ):
        problem = await response.get_json()
        assert response.status_code == 410
        assert problem["type"] == "/problems/job-expired"
        assert {name: problem[name] for name in ("id", "task", "finished_at")} == {
            "id": job["id"],
            "task": "test",
            "finished_at": job["finished_at"],
        }
    assert await all_jobs(jobs) == []


# The result


async def test_the_result_of_an_unfinished_job_is_a_202_until_it_is_there(jobs: QuartClient) -> None:
    job = await started(jobs, "held", args={"name": "result"})
    response = await jobs.get(job["links"]["result"])
    assert response.status_code == 202
    assert "Retry-After" in response.headers
    assert (await response.get_json())["id"] == job["id"]
    gate("result").set()
    await ended(jobs, job)
    response = await jobs.get(job["links"]["result"])
    assert (response.status_code, await response.get_json()) == (200, {"name": "result"})


async def test_the_result_of_a_cancelled_job_is_a_conflict(jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    assert (await jobs.delete(job["links"]["self"])).status_code == 204
    response = await jobs.get(job["links"]["result"])
    assert response.status_code == 409
    assert (await response.get_json())["type"] == "/problems/job-cancelled"


# Cancelling


async def test_a_queued_job_is_cancelled_at_once(jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    response = await jobs.delete(job["links"]["self"])
    assert (response.status_code, await response.get_data()) == (204, b"")
    cancelled = await ended(jobs, job)
    assert (cancelled["status"], cancelled["attempt"], cancelled["attempts"]) == ("cancelled", 0, [])
    assert cancelled["cancel_requested_at"] == cancelled["finished_at"]
    again = await jobs.delete(job["links"]["self"])
    assert again.status_code == 409
    assert (await again.get_json())["type"] == "/problems/job-ended"


async def test_a_running_job_is_told_to_stop(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "stopped", task="stubborn")
    for _ in range(2):
        response = await jobs.delete(job["links"]["self"])
        assert response.status_code == 202
        document = await response.get_json()
        assert document["status"] == "running"
        assert document["cancel_requested_at"]
    gate("stopped").set()
    cancelled = await ended(jobs, job)
    assert (cancelled["status"], cancelled["attempts"][0]["outcome"]) == ("cancelled", "cancelled")
    assert (await jobs.delete(job["links"]["self"])).status_code == 409


# Again


async def test_a_failed_or_cancelled_job_can_be_run_again_as_a_new_one(jobs: QuartClient) -> None:
    cancelled = await started(jobs, "held", args={"name": "again"}, delay=60, priority=7, max_attempts=3)
    await jobs.delete(cancelled["links"]["self"])
    failed = await ended(jobs, await started(jobs, "raises"))
    gate("again").set()
    for old in (cancelled, failed):
        response = await jobs.post(f"{old['links']['self']}/retry")
        new = await response.get_json()
        assert response.status_code == 202
        assert response.headers["Location"] == new["links"]["self"] != old["links"]["self"]
        assert new["links"]["retry_of"] == old["links"]["self"]
        for member in ("task", "args", "priority", "max_attempts"):
            assert new[member] == old[member]
        assert new["run_at"] == new["created_at"]
    assert (await ended(jobs, failed))["status"] == "failed"
    assert RUNS["again"] <= 1


async def test_a_job_that_waits_runs_or_succeeded_cannot(jobs: QuartClient, watch: Watch) -> None:
    waiting = await started(jobs, "test", delay=60)
    runs = await running(jobs, watch, "no-retry")
    done = await ended(jobs, await started(jobs, "test"))
    for job in (waiting, runs, done):
        response = await jobs.post(f"{job['links']['self']}/retry")
        assert response.status_code == 409
        assert (await response.get_json())["type"] == "/problems/job-ended"
    gate("no-retry").set()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("delay", 30 * 86_400 + 1),
        ("delay", 10 * 365 * 86_400),
        ("run_at", "2100-01-01T00:00:00Z"),
        ("run_at", "9000-01-01T00:00:00Z"),
    ],
)
async def test_a_job_is_not_put_off_for_longer_than_the_setting_says(
    jobs: QuartClient, member: str, value: object
) -> None:
    response = await jobs.post("/jobs", json={"task": "test", member: value})
    document = await response.get_json()
    assert response.status_code == 422
    assert [error["pointer"] for error in document["errors"]] == [f"#/{member}"]
    assert "2592000 seconds" in document["errors"][0]["detail"]
    for right in ({"delay": 30 * 86_400}, {"run_at": timestamp(in_seconds(30 * 86_400 - 60))}, {"delay": 0}):
        assert (await jobs.post("/jobs", json={"task": "test", **right})).status_code == 202


async def test_long_arguments_are_in_the_monitor_alone_and_a_message_has_a_thousand_characters(
    jobs: QuartClient,
) -> None:
    long = await started(jobs, "echo", args={"text": "x" * 10_000})
    short = await started(jobs, "echo", args={"text": "x"})
    done = await ended(jobs, long)
    assert done["args"] == {"text": "x" * 10_000}
    assert len(done["progress"]["message"]) == 1_000
    await ended(jobs, short)
    listed = {job["id"]: job for job in await all_jobs(jobs)}
    assert listed[long["id"]]["args_omitted"] is True
    assert "args" not in listed[long["id"]]
    assert listed[short["id"]]["args"] == {"text": "x"}
    assert len(await (await jobs.get("/jobs")).get_data()) < 10_000
