"""Idempotency-Key: one key, one effect, one answer."""

import asyncio
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.http.parts import parts_of
from tests.each import each

from . import job_tasks
from .conftest import all_jobs, ended, started
from .job_tasks import gate

ADA = {"name": "Ada", "email": "ada@example.com"}
ASYNC = {"Prefer": "respond-async"}
STARTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/jobs", {"json": {"task": "test"}}),
    ("POST", "/start-task", {}),
    ("GET", "/start-task", {}),
    ("GET", "/test", {"headers": ASYNC}),
    ("GET", "/comic?num=1", {"headers": ASYNC}),
]


def keyed(members: dict[str, Any], key: str) -> dict[str, Any]:
    return members | {"headers": members.get("headers", {}) | {"Idempotency-Key": key}}


@pytest.mark.parametrize(("method", "path", "members"), STARTS)
async def test_the_same_request_gets_the_first_answer_and_the_same_job(
    jobs: QuartClient, method: str, path: str, members: dict[str, Any]
) -> None:
    first = await jobs.open(path, method=method, **keyed(members, '"one"'))
    again = await jobs.open(path, method=method, **keyed(members, '"one"'))
    other = await jobs.open(path, method=method, **keyed(members, '"two"'))
    assert first.status_code == again.status_code == other.status_code == 202
    assert await first.get_data() == await again.get_data() != await other.get_data()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("Location", "Retry-After", "Content-Type", "Link"):
        assert again.headers[name] == first.headers[name]
    assert again.headers.get("Preference-Applied") == first.headers.get("Preference-Applied")
    assert len(await all_jobs(jobs)) == 2


async def test_the_same_request_in_another_delivery_gets_the_same_job(jobs: QuartClient) -> None:
    gate("keyed").set()
    first = await jobs.get("/held?name=keyed", headers=ASYNC | {"Idempotency-Key": "k"})
    job = await ended(jobs, await first.get_json())
    waited = await jobs.get("/held?name=keyed", headers={"Prefer": "respond-async, wait=30", "Idempotency-Key": "k"})
    assert (waited.status_code, await waited.get_json()) == (200, {"name": "keyed"})
    streamed = await jobs.get("/held?name=keyed", headers={"Accept": "text/event-stream", "Idempotency-Key": "k"})
    assert job["id"] in await streamed.get_data(as_text=True)
    assert waited.headers["Idempotent-Replayed"] == streamed.headers["Idempotent-Replayed"] == "true"
    assert len(await all_jobs(jobs)) == 1


async def test_a_key_with_another_request_is_refused(jobs: QuartClient) -> None:
    headers = {"Idempotency-Key": '"k"'}
    await jobs.post("/jobs", json={"task": "test"}, headers=headers)
    for path, members in (("/jobs", {"task": "test", "priority": 1}), ("/jobs?x=1", {"task": "test"})):
        response = await jobs.post(path, json=members, headers=headers)
        assert response.status_code == 422
        assert (await response.get_json())["type"] == "/problems/idempotency-key-reused"
    assert (await jobs.post("/start-task", headers=headers)).status_code == 202  # a key belongs to its route
    assert len(await all_jobs(jobs)) == 2


async def test_a_key_is_the_same_in_quotes_and_bare(jobs: QuartClient) -> None:
    for key in ('"a-key"', "a-key", ' "a-key" '):
        await jobs.post("/start-task", headers={"Idempotency-Key": key})
    assert len(await all_jobs(jobs)) == 1
    assert (await jobs.post("/start-task", headers={"Idempotency-Key": '"with \\" and space"'})).status_code == 202


@each("key", ["", '""', '"', '"a', "a b", '"a"b"', "x" * 256, '"' + "x" * 256 + '"', "ü", '"\t"'])
async def test_an_unfit_key_is_refused(jobs: QuartClient, key: str) -> None:
    for path, members in (("/jobs", {"task": "test"}), ("/add-user", ADA)):
        response = await jobs.post(path, json=members, headers={"Idempotency-Key": key})
        assert response.status_code == 422
        assert [error["pointer"] for error in (await response.get_json())["errors"]] == ["#/Idempotency-Key"]
    assert await all_jobs(jobs) == []


async def test_two_keys_are_refused(jobs: QuartClient) -> None:
    response = await jobs.post("/start-task", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert response.status_code == 422


async def test_of_twenty_requests_at_once_with_one_key_one_starts_a_job(jobs: QuartClient) -> None:
    members = keyed({"json": {"task": "test"}}, '"k"')
    responses = await asyncio.gather(*(jobs.post("/jobs", **members) for _ in range(20)))
    assert {response.status_code for response in responses} <= {202, 409}
    [job] = await all_jobs(jobs)
    for response in responses:
        document = await response.get_json()
        if response.status_code == 202:
            assert document["id"] == job["id"]
        else:
            assert document["type"] == "/problems/idempotency-key-in-flight"
            assert "Retry-After" in response.headers
    assert (await jobs.post("/jobs", **members)).headers["Idempotent-Replayed"] == "true"


async def test_two_processes_that_get_one_key_at_once_start_one_job(job_settings: Settings) -> None:
    apps = [create_app(job_settings, tasks=[job_tasks]) for _ in range(2)]
    async with apps[0].test_app(), apps[1].test_app():
        for number in range(5):
            members = keyed({"json": {"task": "test"}}, f'"{number}"')
            first, second = await asyncio.gather(*(app.test_client().post("/jobs", **members) for app in apps))
            assert (first.status_code, second.status_code) == (202, 202)
            assert (await first.get_json())["id"] == (await second.get_json())["id"]
        for number in range(5):
            members = keyed({"json": ADA | {"email": f"{number}@example.com"}}, f'"{number}"')
            first, second = await asyncio.gather(*(app.test_client().post("/add-user", **members) for app in apps))
            assert (first.status_code, second.status_code) == (201, 201)
            assert await first.get_json() == await second.get_json()


async def test_a_failure_frees_the_key(jobs: QuartClient, job_app: Quart) -> None:
    headers = {"Idempotency-Key": '"k"'}
    assert (await jobs.post("/jobs", json={"task": "nothing"}, headers=headers)).status_code == 422
    assert (await jobs.post("/jobs", json={"task": "test"}, headers=headers)).status_code == 202
    await jobs.post("/add-user", json=ADA)
    assert (await jobs.post("/add-user", json=ADA, headers=headers)).status_code == 409
    other = await jobs.post("/add-user", json=ADA | {"email": "other@example.com"}, headers=headers)
    assert other.status_code == 201
    assert parts_of(job_app).idempotency.in_flight == set()


async def test_a_key_is_forgotten_when_its_time_is_over(job_settings: Settings) -> None:
    app = create_app(job_settings.model_copy(update={"idempotency_ttl": -1.0}), tasks=[job_tasks])
    async with app.test_app():
        for _ in range(2):
            response = await app.test_client().post("/start-task", headers={"Idempotency-Key": "k"})
            assert response.status_code == 202
            assert "Idempotent-Replayed" not in response.headers


async def test_running_a_job_again_takes_a_key_too(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "raises"))
    path = f"{job['links']['self']}/retry"
    first, again = [await jobs.post(path, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert await first.get_data() == await again.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await all_jobs(jobs)) == 2


async def test_a_waiting_caller_may_send_a_key_for_nothing(jobs: QuartClient) -> None:
    for _ in range(2):
        response = await jobs.get("/test", headers={"Idempotency-Key": "k"})
        assert response.status_code == 200
        assert "Idempotent-Replayed" not in response.headers


async def test_a_user_is_added_once_for_a_key(jobs: QuartClient) -> None:
    first, again = [await jobs.post("/add-user", json=ADA, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert await first.get_json() == await again.get_json()
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await (await jobs.get("/users")).get_json()) == 1
    other = await jobs.post("/add-user", json=ADA | {"name": "Bob"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


async def test_of_twenty_requests_at_once_with_one_key_one_adds_a_user(jobs: QuartClient) -> None:
    members = keyed({"json": ADA}, "k")
    responses = await asyncio.gather(*(jobs.post("/add-user", **members) for _ in range(20)))
    assert {response.status_code for response in responses} <= {201, 409}
    assert 201 in {response.status_code for response in responses}
    assert len(await (await jobs.get("/users")).get_json()) == 1
