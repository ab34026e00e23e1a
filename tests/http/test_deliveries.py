"""One task, four deliveries, chosen by the caller for each request."""

import asyncio
from collections.abc import Mapping

import pytest
from quart import Quart
from quart.testing import QuartClient
from werkzeug.datastructures import Headers

from quart_async_api import Settings, create_app
from quart_async_api.http.parts import parts_of
from tests.each import each

from . import job_tasks
from .conftest import Watch, all_jobs, ended, running
from .job_tasks import RUNS, gate

COME_BACK = {"Prefer": "respond-async"}
WAIT_A_WHILE = {"Prefer": "respond-async, wait=30"}
STREAM = {"Accept": "text/event-stream"}
DELIVERIES: list[Mapping[str, str]] = [{}, COME_BACK, WAIT_A_WHILE, STREAM]


def assert_varies(headers: Headers) -> None:
    assert {"prefer", "accept"} <= {name.strip().lower() for name in headers["Vary"].split(",")}


async def test_a_caller_who_waits_gets_the_result_and_leaves_no_row(jobs: QuartClient) -> None:
    gate("waits").set()
    response = await jobs.get("/held?name=waits")
    assert await response.get_json() == {"name": "waits"}
    assert_varies(response.headers)
    assert "Preference-Applied" not in response.headers
    assert await all_jobs(jobs) == []


async def test_a_caller_who_comes_back_gets_a_job_at_once(jobs: QuartClient) -> None:
    response = await jobs.get("/held?name=comes-back", headers=COME_BACK)
    job = await response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == job["links"]["self"] == f"/jobs/{job['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Link"] == f'</jobs/{job["id"]}>; rel="monitor"'
    assert_varies(response.headers)
    assert (job["task"], job["status"], job["args"]) == ("held", "queued", {"name": "comes-back", "steps": 0})
    gate("comes-back").set()
    assert (await ended(jobs, job))["result"] == {"name": "comes-back"}


async def test_one_who_waits_a_while_gets_the_routes_own_answer_when_it_is_there_in_time(jobs: QuartClient) -> None:
    gate("in-time").set()
    response = await jobs.get("/held?name=in-time", headers={"Prefer": "respond-async, wait=99"})
    assert response.status_code == 200
    assert await response.get_json() == {"name": "in-time"}
    assert response.headers["Preference-Applied"] == "respond-async, wait=30"
    [job] = await all_jobs(jobs)
    assert response.headers["Link"] == f'</jobs/{job["id"]}>; rel="monitor"'
    assert_varies(response.headers)


async def test_one_who_waits_too_short_a_while_gets_the_202_of_that_same_run(jobs: QuartClient) -> None:
    response = await jobs.get("/held?name=too-short", headers={"Prefer": "respond-async, wait=0"})
    job = await response.get_json()
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async, wait=0"
    assert response.headers["Location"] == job["links"]["self"]
    gate("too-short").set()
    await ended(jobs, job)
    assert RUNS["too-short"] == 1


async def test_wait_alone_is_a_plain_wait(jobs: QuartClient) -> None:
    gate("alone").set()
    response = await jobs.get("/held?name=alone", headers={"Prefer": "wait=0"})
    assert (response.status_code, await response.get_json()) == (200, {"name": "alone"})
    assert "Preference-Applied" not in response.headers
    assert await all_jobs(jobs) == []


@each("prefer", ["respond async", "respond-async=yes", '"', ";;;", "return=minimal", ""])
async def test_a_malformed_or_unknown_preference_is_ignored(jobs: QuartClient, prefer: str) -> None:
    gate("ignored").set()
    response = await jobs.get("/held?name=ignored", headers={"Prefer": prefer})
    assert response.status_code == 200
    assert await all_jobs(jobs) == []


async def test_preferences_may_be_spread_over_lines(jobs: QuartClient) -> None:
    gate("lines").set()
    lines = [("Prefer", "handling=strict"), ("Prefer", "respond-async"), ("Prefer", "wait=30")]
    response = await jobs.get("/held?name=lines", headers=lines)
    assert response.headers["Preference-Applied"] == "respond-async, wait=30"


@each(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("*/*", False),
        ("text/*", False),
    ],
)
async def test_accept_chooses_the_stream_and_goes_before_prefer(jobs: QuartClient, accept: str, streams: bool) -> None:
    gate("accept").set()
    response = await jobs.get("/held?name=accept", headers={"Accept": accept, "Prefer": "respond-async, wait=30"})
    assert response.status_code == 200
    assert (response.mimetype == "text/event-stream") == streams
    assert ("Preference-Applied" in response.headers) != streams
    assert_varies(response.headers)


@pytest.mark.parametrize("path", ["raises", "late", "unreachable", "sluggish", "untyped"])
async def test_a_failure_is_the_same_problem_in_every_delivery(jobs: QuartClient, path: str) -> None:
    expected = {"raises": 500, "late": 504, "unreachable": 502, "sluggish": 504, "untyped": 500}[path]
    waited = await jobs.get(f"/{path}")
    inline = await jobs.get(f"/{path}", headers=WAIT_A_WHILE)
    [job] = await all_jobs(jobs)
    later = await jobs.get(job["links"]["result"])
    problems = [await response.get_json() for response in (waited, inline, later)]
    for response, problem in zip((waited, inline, later), problems, strict=True):
        assert response.status_code == problem["status"] == expected
        assert response.mimetype == "application/problem+json"
        assert "secret" not in str(problem)
    for member in ("type", "title", "status", "detail"):
        assert len({problem[member] for problem in (*problems, job["error"])}) == 1
    assert inline.headers["Link"] == f'<{job["links"]["self"]}>; rel="monitor"'
    assert_varies(waited.headers)
    assert_varies(inline.headers)


@each("headers", DELIVERIES)
@each("path", ["/comic?number=0", "/held", "/held?name=x&steps=many"])
async def test_bad_arguments_are_refused_at_once_in_every_delivery(
    jobs: QuartClient, path: str, headers: Mapping[str, str]
) -> None:
    response = await jobs.get(path, headers=headers)
    assert response.status_code == 422
    assert_varies(response.headers)
    assert await all_jobs(jobs) == []


@pytest.mark.parametrize("headers", DELIVERIES)
async def test_head_starts_nothing_in_any_delivery(jobs: QuartClient, headers: Mapping[str, str]) -> None:
    for path in ("/held?name=head", "/start-task", "/test"):
        response = await jobs.head(path, headers=headers)
        assert await response.get_data() == b""
        assert_varies(response.headers)
    assert RUNS["head"] == 0
    assert await all_jobs(jobs) == []


@pytest.mark.parametrize("headers", [WAIT_A_WHILE, STREAM])
async def test_a_client_that_hangs_up_takes_no_job_with_it(
    jobs: QuartClient, watch: Watch, headers: Mapping[str, str]
) -> None:
    name = f"hangs-up-{len(headers)}-{next(iter(headers))}"
    async with watch("/jobs/events") as reader:
        async with jobs.request(f"/held?name={name}", headers=dict(headers)) as connection:
            await connection.send_complete()
            await reader.next()  # its progress: it runs
            await connection.disconnect()
        await reader.leave()
    gate(name).set()
    [job] = await all_jobs(jobs)
    assert (await ended(jobs, job))["status"] == "succeeded"
    assert RUNS[name] == 1


async def test_a_client_that_hangs_up_while_it_waits_alone_ends_the_run(job_app: Quart, jobs: QuartClient) -> None:
    lifecycle = parts_of(job_app).lifecycle
    async with jobs.request("/held?name=nobody") as connection:
        await connection.send_complete()
        await gate("nobody has begun").wait()
        assert lifecycle.waits == 1
        await connection.disconnect()
    assert lifecycle.waits == 0
    assert RUNS["nobody"] == 1


async def test_a_job_that_is_cancelled_while_its_caller_waits_is_a_conflict(jobs: QuartClient, watch: Watch) -> None:
    async with watch("/jobs/events") as reader:
        waiting = asyncio.create_task(jobs.get("/held?name=cancelled", headers=WAIT_A_WHILE))
        await reader.next()
        [job] = await all_jobs(jobs)
        assert (await jobs.delete(job["links"]["self"])).status_code == 202
        response = await waiting
        await reader.leave()
    assert response.status_code == 409
    assert (await response.get_json())["type"] == "/problems/job-cancelled"
    assert response.headers["Link"] == f'<{job["links"]["self"]}>; rel="monitor"'


@pytest.mark.parametrize(("method", "path"), [("GET", "/held?name=resumed"), ("GET", "/held?name=other")])
async def test_a_task_route_that_is_given_an_event_of_its_job_resumes_it(
    jobs: QuartClient, watch: Watch, method: str, path: str
) -> None:
    job = await running(jobs, watch, "resumed")
    gate("resumed").set()
    gate("other").set()
    response = await jobs.open(path, method=method, headers=STREAM | {"Last-Event-ID": f"{job['id']}:1"})
    text = await response.get_data(as_text=True)
    assert "event: succeeded" in text
    assert "event: snapshot" not in text
    assert len(await all_jobs(jobs)) == 1
    gone = await jobs.get(path, headers=STREAM | {"Last-Event-ID": f"{job['id']}:2"})
    assert gone.status_code == 204


async def test_an_event_of_another_tasks_job_resumes_nothing(jobs: QuartClient) -> None:
    gate("mine").set()
    response = await jobs.get("/held?name=mine", headers=WAIT_A_WHILE)
    [job] = await all_jobs(jobs)
    response = await jobs.get("/test", headers=STREAM | {"Last-Event-ID": f"{job['id']}:1"})
    assert "event: snapshot" in await response.get_data(as_text=True)
    assert len(await all_jobs(jobs)) == 2


async def test_a_page_of_another_site_cannot_start_a_job_through_a_stream(jobs: QuartClient) -> None:
    for headers in (STREAM | {"Origin": "https://evil.example"}, STREAM | {"Sec-Fetch-Site": "cross-site"}):
        response = await jobs.get("/test", headers=headers)
        assert response.status_code == 403
    assert await all_jobs(jobs) == []


async def test_start_task_waits_a_while_on_wish(jobs: QuartClient) -> None:
    for prefer in ("wait=30", "respond-async, wait=30"):
        response = await jobs.post("/start-task", headers={"Prefer": prefer})
        answer = await response.get_json()
        assert (response.status_code, answer["message"]) == (200, "Task started")
        assert answer["job"]["status"] == "succeeded"
        assert response.headers["Preference-Applied"] == prefer
        assert_varies(response.headers)


async def test_a_full_queue_takes_no_job_and_still_serves_who_waits(job_settings: Settings) -> None:
    app = create_app(job_settings.model_copy(update={"job_concurrency": 1, "job_queue_limit": 1}), tasks=[job_tasks])
    job_tasks.add_routes(app)
    async with app.test_app():
        client = app.test_client()
        later = {"task": "test", "delay": 3600}
        assert (await client.post("/jobs", json=later)).status_code == 202
        for headers in (COME_BACK, STREAM, WAIT_A_WHILE):
            response = await client.get("/test", headers=headers)
            assert response.status_code == 503
            assert "Retry-After" in response.headers
            assert_varies(response.headers)
        assert (await client.get("/test")).status_code == 200
        assert len(await all_jobs(client)) == 1  # type: ignore[arg-type]


async def test_a_drain_turns_waits_into_202_and_refuses_new_jobs(
    job_app: Quart, jobs: QuartClient, watch: Watch
) -> None:
    async with watch("/jobs/events") as reader:
        waiting = asyncio.create_task(jobs.get("/held?name=drained", headers=WAIT_A_WHILE))
        await reader.next()
        await parts_of(job_app).lifecycle.drain()
        assert (await waiting).status_code == 202
        assert (await reader.next()).name == "draining"
    refused = await jobs.get("/test", headers=COME_BACK)
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    [job] = await all_jobs(jobs)
    assert (job["status"], job["attempt"]) == ("queued", 0)
