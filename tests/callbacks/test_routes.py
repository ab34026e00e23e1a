"""Callbacks through the routes: asked for, shown, replayed."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from tests.engine.conftest import until
from tests.http import job_tasks
from tests.http.conftest import ended, started
from tests.secrets import secret

from .conftest import SECRET, Document
from .receiver import Receiver, answering, when

TERMINAL = ["job.succeeded", "job.failed", "job.cancelled"]


@pytest.fixture
async def calling_app(settings: Settings) -> AsyncIterator[Quart]:
    calling = settings.model_copy(update={"callback_allow_private": True, "callback_schedule": (0.0, 0.05, 0.1)})
    app = create_app(calling, tasks=[job_tasks])
    async with app.test_app():
        await parts_of(app).database.client.execute_query(
            "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES ('', ?, '')", [SECRET]
        )
        yield app


@pytest.fixture
def client(calling_app: Quart) -> QuartClient:
    made = calling_app.test_client()
    assert isinstance(made, QuartClient)
    return made


async def callbacks(client: QuartClient, job: Document) -> list[Document]:
    response = await client.get(job["links"]["callbacks"])
    assert response.status_code == 200
    document = await response.get_json()
    assert document.keys() == {"items"}
    items: list[Document] = document["items"]
    return items


async def settled(client: QuartClient, job: Document) -> list[Document]:
    async def are_settled() -> bool:
        return all(callback["status"] != "pending" for callback in await callbacks(client, job))

    await ended(client, job)
    await until(are_settled)
    return await callbacks(client, job)


async def replay(client: QuartClient, job: Document, callback: str) -> Any:
    return await client.post(f"{job['links']['callbacks']}/{callback}/replay")


async def test_what_was_sent_is_shown_with_its_attempts(client: QuartClient, receiver: Receiver) -> None:
    receiver.script = [answering(500, b"x" * 5000)]
    job = await started(client, "test", callback_url=receiver.url)
    [callback] = await settled(client, job)
    assert callback.keys() == {"id", "url", "type", "status", "next_attempt_at", "attempts"}
    assert callback["id"] == receiver.sent[0].id
    assert (callback["url"], callback["type"], callback["status"]) == (receiver.url, "job.succeeded", "delivered")
    assert callback["next_attempt_at"] is None
    first, second = callback["attempts"]
    assert first == {"number": 1, "at": first["at"], "status": 500, "error": "status 500", "body": "x" * 1024}
    assert second == {"number": 2, "at": second["at"], "status": 200, "error": None, "body": ""}
    assert first["at"] < second["at"]
    for sent in receiver.sent:
        sent.verify(SECRET)


async def test_the_page_of_a_job_shows_its_callbacks_and_sends_them_again(
    client: QuartClient, receiver: Receiver
) -> None:
    receiver.script = [answering(500, b"<b>no</b>")]
    job = await started(client, "test", callback_url=receiver.url)
    [callback] = await settled(client, job)
    page = await (await client.get(f"/console{job['links']['self']}")).get_data(as_text=True)
    assert receiver.url in page
    assert "<summary>2, the last 200</summary>" in page
    assert "500 <bdi>status 500</bdi>" in page
    [path] = re.findall(r'action="([^"]+/replay)"', page)
    response = await client.post(path)
    assert response.status_code == 303
    assert response.headers["Location"] == f"/console{job['links']['self']}?notice=replayed#callbacks"
    await receiver.got(3)
    assert {sent.id for sent in receiver.sent} == {callback["id"]}


async def test_a_callback_that_is_due_at_once_shows_a_moment(client: QuartClient, receiver: Receiver) -> None:
    receiver.script = [when(gate := job_tasks.gate("shown"))]
    job = await started(client, "test", callback_url=receiver.url)
    await receiver.got(1)
    [callback] = await callbacks(client, job)
    assert (callback["status"], callback["attempts"]) == ("pending", [])
    assert callback["next_attempt_at"] == (await ended(client, job))["finished_at"]
    gate.set()


async def test_a_job_without_callbacks_shows_none(client: QuartClient) -> None:
    job = await started(client, "test")
    assert await settled(client, job) == []


@pytest.mark.parametrize("path", ["/test", "/gather", "/get", "/mock-db", "/comic", "/external-api"])
async def test_a_callback_url_alone_means_to_come_back_on_every_task_route(
    client: QuartClient, receiver: Receiver, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = await client.get(path, query_string={"callback_url": receiver.url})
    assert response.status_code == 202
    job = await response.get_json()
    assert response.headers["Location"] == f"/jobs/{job['id']}"
    if path == "/gather":  # takes three seconds
        await client.delete(job["links"]["self"])
    [sent] = await receiver.got(1)
    assert sent.job == job["id"]


@pytest.mark.parametrize("how", ["GET", "query", "body"])
async def test_start_task_takes_a_callback_url_in_query_and_body(
    client: QuartClient, receiver: Receiver, how: str
) -> None:
    given = {"callback_url": receiver.url, "callback_events": "job.succeeded"}
    if how == "GET":
        response = await client.get("/start-task", query_string=given)
    elif how == "query":
        response = await client.post("/start-task", query_string=given)
    else:
        response = await client.post("/start-task", json=given)
    assert response.status_code == 202
    [sent] = await receiver.got(1)
    assert sent.job == (await response.get_json())["job"]["id"]


async def test_with_prefer_wait_the_answer_is_the_routes_own_and_the_callback_comes_too(
    client: QuartClient, receiver: Receiver
) -> None:
    response = await client.get(
        "/test", query_string={"callback_url": receiver.url}, headers={"Prefer": "respond-async, wait=30"}
    )
    assert (response.status_code, await response.get_json()) == (200, {"result": 1})
    await receiver.got(1)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("job.succeeded", ["job.succeeded"]),
        ("job.failed", []),
        ("job.failed,job.succeeded", ["job.succeeded"]),
        (["job.failed", "job.succeeded", "job.succeeded"], ["job.succeeded"]),
        ([], ["job.succeeded"]),
    ],
)
async def test_the_events_that_are_asked_for_are_sent(
    client: QuartClient, receiver: Receiver, events: object, expected: list[str]
) -> None:
    job = await started(client, "test", callback_url=receiver.url, callback_events=events)
    assert [callback["type"] for callback in await settled(client, job)] == expected


async def test_what_a_job_is_told_to_send_is_refused_where_it_is_nonsense(
    client: QuartClient, receiver: Receiver
) -> None:
    for members in (
        {"callback_events": ["job.succeeded"]},
        {"callback_url": receiver.url, "callback_events": ["job.started"]},
        {"callback_url": receiver.url, "callback_events": 5},
        {"callback_url": 5},
    ):
        response = await client.post("/jobs", json={"task": "test", **members})
        assert response.status_code == 422
        [error] = (await response.get_json())["errors"]
        assert error["pointer"].startswith(("#/callback_url", "#/callback_events"))


async def test_a_result_that_is_long_is_left_out_of_the_callback(client: QuartClient, receiver: Receiver) -> None:
    job = await started(client, "long", callback_url=receiver.url)
    [sent] = await receiver.got(1)
    assert sent.event["data"]["result_omitted"] is True
    assert "result" not in sent.event["data"]
    assert sent.event["data"]["links"] == job["links"]
    assert len(sent.body) < 20_000


async def test_each_event_and_callback_of_a_job_stored_its_long_arguments_once_more(
    calling_app: Quart, client: QuartClient, receiver: Receiver
) -> None:
    database = parts_of(calling_app).database
    sizes = []
    for length in (1_000, 100_000):
        job = await started(
            client,
            "echo",
            args={"text": "x" * length},
            callback_url=receiver.url,
            callback_events="job.progress,job.succeeded",
        )
        waited = await client.get(job["links"]["self"], headers={"Prefer": "wait=30"})
        assert (await waited.get_json())["args"] == {"text": "x" * length}
        text = await (await client.get(job["links"]["events"])).get_data(as_text=True)
        assert ('"args_omitted": true' in text) is (length > 4_096)
        [stored] = await database.read("SELECT bytes FROM jobs WHERE id = ?", job["id"])
        sizes.append(stored["bytes"])
    bodies = await database.read("SELECT type, body FROM callback_deliveries WHERE job_id = ? ORDER BY id", job["id"])
    assert [body["type"] for body in bodies] == ["job.progress", "job.succeeded"]
    for body in bodies:
        data = json.loads(body["body"])["data"]
        assert data["args_omitted"] is True
        assert "args" not in data
    # In the job's own row alone: 99,000 bytes more of arguments take 99,000 bytes more, whatever the number of events.
    assert sizes[1] - sizes[0] < 99_000


async def test_a_retry_of_a_job_calls_back_as_the_first_did(client: QuartClient, receiver: Receiver) -> None:
    job = await started(client, "raises", callback_url=receiver.url, callback_events="job.failed")
    await receiver.got(1)
    again = await (await client.post(f"{job['links']['self']}/retry")).get_json()
    _, sent = await receiver.got(2)
    assert (sent.job, sent.event["type"]) == (again["id"], "job.failed")
    assert sent.event["data"]["error"]["status"] == 500


async def test_a_replay_is_delivered_again_under_the_same_id(client: QuartClient, receiver: Receiver) -> None:
    job = await started(client, "test", callback_url=receiver.url)
    [callback] = await settled(client, job)
    for tries in (2, 3):
        response = await replay(client, job, callback["id"])
        assert response.status_code == 202
        assert response.headers["Location"] == job["links"]["callbacks"]
        assert [item["id"] for item in (await response.get_json())["items"]] == [callback["id"]]
        await receiver.got(tries)
        [callback] = await settled(client, job)
        assert callback["status"] == "delivered"
        assert [attempt["number"] for attempt in callback["attempts"]] == list(range(1, tries + 1))
    assert set(receiver.ids) == {callback["id"]}
    assert len({sent.body for sent in receiver.sent}) == 1


async def test_what_was_given_up_can_be_replayed_on_the_schedule_from_its_beginning(
    client: QuartClient, receiver: Receiver
) -> None:
    receiver.script = [answering(500)] * 4
    job = await started(client, "test", callback_url=receiver.url)
    [callback] = await settled(client, job)
    assert (callback["status"], len(callback["attempts"])) == ("failed", 3)
    await replay(client, job, callback["id"])
    [callback] = await settled(client, job)
    assert callback["status"] == "delivered"
    assert [attempt["status"] for attempt in callback["attempts"]] == [500, 500, 500, 500, 200]


async def test_a_replay_of_what_is_not_there_is_a_404(client: QuartClient, receiver: Receiver) -> None:
    job = await started(client, "test", callback_url=receiver.url)
    other = await started(client, "test", callback_url=receiver.url)
    [callback] = await settled(client, job)
    for response in (
        await replay(client, job, "msg_unknown"),
        await replay(client, other, callback["id"]),
        await client.post(f"/jobs/00000000-0000-7000-8000-000000000000/callbacks/{callback['id']}/replay"),
        await client.get("/jobs/00000000-0000-7000-8000-000000000000/callbacks"),
        await client.get("/jobs/nonsense/callbacks"),
    ):
        assert response.status_code == 404
        assert response.mimetype == "application/problem+json"
    await settled(client, other)
    assert len(receiver.sent) == 2


async def listed(client: QuartClient, path: str, **headers: str) -> list[Document]:
    """The callbacks of all pages."""
    found: list[Document] = []
    while path:
        response = await client.get(path, headers=headers)
        assert response.status_code == 200, await response.get_data()
        page = await response.get_json()
        assert ('rel="next"' in response.headers["Link"]) == (page["next"] is not None)
        found += page["items"]
        path = page["next"]
    return found


async def test_the_callbacks_of_all_jobs_are_listed_newest_first_as_under_their_job(
    client: QuartClient, receiver: Receiver
) -> None:
    receiver.script = [answering(500)] * 3
    failed = await started(client, "test", callback_url=receiver.url)
    await settled(client, failed)
    jobs = [failed]
    for task in ("test", "raises", "test"):
        jobs.append(await started(client, task, callback_url=receiver.url))
        await settled(client, jobs[-1])
    expected = [callback | {"job_id": job["id"]} for job in reversed(jobs) for callback in await callbacks(client, job)]
    assert await listed(client, "/callbacks") == await listed(client, "/callbacks?limit=1") == expected
    of_jobs = [callback["job_id"] for callback in await listed(client, "/callbacks?status=delivered&limit=2")]
    assert of_jobs == [job["id"] for job in reversed(jobs[1:])]
    assert [one["job_id"] for one in await listed(client, "/callbacks?type=job.failed")] == [jobs[2]["id"]]
    origin = quote(f"http://127.0.0.1:{urlsplit(receiver.url).port}", safe="")
    assert await listed(client, f"/callbacks?limit=3&origin={origin}") == expected
    assert await listed(client, "/callbacks?origin=https://example.org:443") == []

    [undelivered] = await listed(client, "/callbacks?status=failed")
    await replay(client, {"links": {"callbacks": f"/jobs/{undelivered['job_id']}/callbacks"}}, undelivered["id"])
    await settled(client, failed)
    assert await listed(client, "/callbacks?status=failed") == []

    for wrong in ("status=lost", "type=job.lost", "limit=0", "cursor=x", "origin=%00"):
        assert (await client.get(f"/callbacks?{wrong}")).status_code == 422, wrong
    following = (await (await client.get("/callbacks?limit=1")).get_json())["next"]
    assert (await client.get(f"{following}&status=failed")).status_code == 422  # a cursor of other filters


async def test_a_key_lists_the_callbacks_of_its_own_jobs_and_an_admins_those_of_all(
    client: QuartClient, calling_app: Quart, receiver: Receiver
) -> None:
    keys = {
        name: {"Authorization": f"Bearer {secret((await parts_of(calling_app).keys.create(name, scopes))[1])}"}
        for name, scopes in (("alice", ()), ("bob", ()), ("root", (Scope.ADMIN,)))
    }
    for name in ("alice", "bob"):
        body = {"task": "test", "callback_url": receiver.url}
        assert (await client.post("/jobs", json=body, headers=keys[name])).status_code == 202
    await receiver.got(2)
    seen = {
        name: {one["job_id"] for one in await listed(client, "/callbacks", **headers)} for name, headers in keys.items()
    }
    assert [len(seen[name]) for name in keys] == [1, 1, 2]
    assert seen["alice"] | seen["bob"] == seen["root"]
