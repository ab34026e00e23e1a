"""The routes of the tutorials, as their clients know them."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.demo import StandIn
from quart_async_api.http.parts import parts_of
from tests.each import each

TASK_ROUTES = ["/get", "/test", "/gather", "/mock-db", "/external-api", "/comic"]


async def test_get_answers_with_the_content_of_the_data_file(client: QuartClient) -> None:
    response = await client.get("/get")
    assert response.status_code == 200
    assert (await response.get_json())["result"]["service"] == "quart-async-api"


async def test_get_reads_the_file_at_each_call(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    app = create_app(settings.model_copy(update={"data_file": file}))
    async with app.test_app():
        for content in ([1, "ü"], {"a": None}, 7):
            await asyncio.to_thread(file.write_text, json.dumps(content))
            assert await (await app.test_client().get("/get")).get_json() == {"result": content}


@pytest.mark.parametrize("content", [None, b"", b"{", b"[NaN]", b'"\xff"', b"[" * 10_000])
async def test_a_data_file_that_is_unusable_is_a_problem_that_names_the_setting_and_no_path(
    settings: Settings, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "data.json"
    if content is not None:
        file.write_bytes(content)
    app = create_app(settings.model_copy(update={"data_file": file}))
    async with app.test_app():
        response = await app.test_client().get("/get")
        problem = await response.get_json()
    assert response.status_code == problem["status"] == 500
    assert "QAA_DATA_FILE" in problem["detail"]
    assert str(tmp_path) not in json.dumps(problem)


async def test_test_answers_one(client: QuartClient) -> None:
    assert await (await client.get("/test")).get_json() == {"result": 1}


async def test_the_delay_is_awaited(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"delay": 0.2}))
    async with app.test_app():
        started = time.perf_counter()
        answers = await asyncio.gather(*(app.test_client().get(path) for path in ("/test", "/get", "/mock-db")))
        elapsed = time.perf_counter() - started
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert elapsed >= 0.2


@pytest.mark.slow
async def test_gather_runs_both_at_once(client: QuartClient) -> None:
    for _ in range(3):  # a busy machine may stop for two seconds, but hardly each time
        gathered = await (await client.get("/gather")).get_json()
        assert gathered["results"] == ["Task 1 Complete", "Task 2 Complete"]
        assert gathered["elapsed"] >= 3
        if gathered["elapsed"] < 5:
            break
    assert gathered["elapsed"] < 5


async def test_mock_db_answers_with_rows_and_time(client: QuartClient) -> None:
    answer = await (await client.get("/mock-db")).get_json()
    assert set(answer) == {"data", "elapsed"}
    assert all({"id", "name"} <= row.keys() for row in answer["data"])


async def test_external_api_answers_with_the_document_and_what_it_took(client: QuartClient, upstream: StandIn) -> None:
    answer = await (await client.get("/external-api")).get_json()
    assert set(answer) == {"url", "status", "data", "elapsed"}
    assert answer["url"] == upstream.external_api_url
    assert answer["status"] == 200


async def test_head_on_a_task_route_starts_nothing_and_waits_for_nothing(
    settings: Settings, upstream: StandIn, subtests: pytest.Subtests
) -> None:
    app = create_app(settings.model_copy(update={"delay": 3000}))
    async with app.test_app():
        for path in TASK_ROUTES:
            with subtests.test(path=path):
                response = await app.test_client().head(path)
                assert response.status_code == 200
                assert await response.get_data() == b""
    assert not upstream.calls


@each("path", TASK_ROUTES)
async def test_a_task_route_varies_by_what_chooses_the_delivery(client: QuartClient, path: str) -> None:
    response = await client.head(path)
    assert {name.lower() for name in response.vary} >= {"prefer", "accept"}


@each("path", [*TASK_ROUTES, "/add-user", "/users", "/user/1", "/start-task", "/"])
async def test_options_names_the_methods(client: QuartClient, path: str) -> None:
    response = await client.options(path)
    assert response.status_code == 200
    assert "OPTIONS" in response.headers["Allow"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_start_task_answers_at_once_and_runs_on(
    client: QuartClient, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        response = await client.open("/start-task", method=method)
        answer = await response.get_json()
        assert response.status_code == 202
        assert answer["message"] == "Task started"
        assert response.headers["Location"] == answer["job"]["links"]["self"] == f"/jobs/{answer['job']['id']}"
        monitor = await client.get(response.headers["Location"], headers={"Prefer": "wait=30"})
        job = await monitor.get_json()
    assert "Background task completed" in caplog.text
    assert job["status"] == "succeeded"
    assert job["progress"]["percent"] == 100
    assert (method == "GET") == ("Deprecation" in response.headers)


async def test_head_on_start_task_starts_nothing(client: QuartClient) -> None:
    assert (await client.head("/start-task")).status_code == 202
    assert (await (await client.get("/jobs")).get_json())["items"] == []


async def test_an_unknown_job_is_not_found(client: QuartClient) -> None:
    response = await client.get("/jobs/0192f0c1-0000-7000-8000-000000000000")
    assert response.status_code == 404
    assert (await response.get_json())["error"] == "Job not found"


@pytest.mark.slow
async def test_a_thousand_requests_initialise_tortoise_once(app: Quart) -> None:
    answers = await asyncio.gather(*(app.test_client().get("/users") for _ in range(1000)))
    assert {answer.status_code for answer in answers} == {200}
    assert parts_of(app).database.starts == 1


async def test_two_apps_with_two_databases_live_in_one_process(settings: Settings, tmp_path: Path) -> None:
    second_file = tmp_path / "second.db"
    await asyncio.to_thread(second_file.write_bytes, Path(settings.database_url.removeprefix("sqlite://")).read_bytes())
    first = create_app(settings)
    second = create_app(settings.model_copy(update={"database_url": f"sqlite://{second_file}"}))
    async with first.test_app(), second.test_app():
        body = {"name": "Ada", "email": "ada@example.com"}
        assert (await first.test_client().post("/add-user", json=body)).status_code == 201
        assert await (await second.test_client().get("/users")).get_json() == []
        assert (await second.test_client().post("/add-user", json=body)).status_code == 201
