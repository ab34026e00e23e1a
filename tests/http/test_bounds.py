"""Everything that a client can make long, deep or many has a bound, and a problem of its own past it."""

import gc
import json
from typing import Any, cast

import pytest
from quart import Quart
from quart.testing import QuartClient
from quart.testing.connections import WebsocketResponseError

from quart_async_api import Settings
from quart_async_api.app import create_app
from quart_async_api.http.contract.nesting import LEVELS
from quart_async_api.http.parts import parts_of
from tests.each import each

from .conftest import Watch, all_jobs, started
from .test_job_sockets import told
from .test_problems import assert_is_problem


async def assert_refused(response: Any, status: int, slug: str) -> dict[str, Any]:
    document = await response.get_json()
    assert response.status_code == status, document
    assert_is_problem(response, document)
    assert document["type"] == f"/problems/{slug}"
    return cast("dict[str, Any]", document)


# Heads


@each("fields", [{"X-Long": "a" * 16_384}, {f"X-{number}": "a" * 100 for number in range(200)}])
@each("path", ["/users", "/nowhere", "/health/live"])
async def test_header_fields_that_are_too_long(client: QuartClient, path: str, fields: dict[str, str]) -> None:
    await assert_refused(await client.get(path, headers=fields), 431, "header-fields-too-large")


async def test_header_fields_that_are_just_not_too_long(client: QuartClient) -> None:
    assert (await client.get("/users", headers={"X-Long": "a" * 16_000})).status_code == 200


@pytest.mark.parametrize("path", ["/users", "/nowhere", "/health/live"])
async def test_a_query_that_is_too_long(client: QuartClient, path: str) -> None:
    await assert_refused(await client.get(f"{path}?a={'b' * 8_191}"), 414, "uri-too-long")


async def test_a_query_that_is_just_not_too_long(client: QuartClient) -> None:
    assert (await client.get(f"/users?a={'b' * 8_190}")).status_code == 200


async def test_a_path_that_is_too_long(client: QuartClient) -> None:
    await assert_refused(await client.get("/" + "a" * 8_192), 414, "uri-too-long")
    assert (await client.get("/" + "a" * 8_000)).status_code == 404


async def test_the_head_of_a_websocket_has_the_same_bounds(client: QuartClient) -> None:
    async with client.websocket(f"/jobs/1/ws?a={'b' * 8_192}") as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    assert refused.value.response.status_code == 414


# Bodies


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * levels + "1" + closing * levels


@each(
    "body",
    [
        nested(LEVELS + 1),
        nested(LEVELS + 1, "[", "]"),
        nested(100_000, "[", "]"),
        '{"x": [' + "[]," * 1000 + nested(LEVELS - 1, "[", "]") + "]}",
    ],
)
@each("path", ["/jobs", "/add-user"])
async def test_json_that_is_nested_too_deep(client: QuartClient, path: str, body: str) -> None:
    response = await client.post(path, data=body, headers={"Content-Type": "application/json"})
    await assert_refused(response, 400, "nesting-too-deep")


@pytest.mark.parametrize("body", [nested(LEVELS), '{"name": "' + "[" * 1000 + '"}', '{"x": [' + "[]," * 5000 + "[]]}"])
async def test_json_that_is_just_not_nested_too_deep(client: QuartClient, body: str) -> None:
    response = await client.post("/add-user", data=body, headers={"Content-Type": "application/json"})
    await assert_refused(response, 422, "invalid-input")


# Pages


@pytest.mark.parametrize(("path", "most"), [("/users", 1000), ("/jobs", 100)])
async def test_a_page_that_is_too_large(client: QuartClient, path: str, most: int) -> None:
    document = await assert_refused(await client.get(f"{path}?limit={most + 1}"), 422, "page-too-large")
    assert [error["pointer"] for error in document["errors"]] == ["#/limit"]
    assert str(most) in document["errors"][0]["detail"]
    assert (await client.get(f"{path}?limit={most}")).status_code == 200
    await assert_refused(await client.get(f"{path}?limit=0"), 422, "invalid-input")


# Streams


@pytest.fixture
def job_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_streams": 2, "cancel_seconds": 1})


async def test_more_streams_than_may_be_are_refused_and_start_nothing(
    jobs: QuartClient, job_app: Quart, watch: Watch
) -> None:
    job = await started(jobs, "test", delay=60)
    events, socket_path = job["links"]["events"], job["links"]["websocket"]
    async with watch(events) as reader, jobs.websocket(socket_path) as socket:
        await reader.next()
        await socket.receive()
        before = len(await all_jobs(jobs))
        accepts = {"Accept": "text/event-stream"}
        for response in (
            await jobs.get(events),
            await jobs.get("/jobs/events"),
            await jobs.get("/test", headers=accepts),
            await jobs.post("/start-task", headers=accepts),
            await jobs.post("/jobs", json={"task": "test"}, headers=accepts),
        ):
            await assert_refused(response, 503, "too-many-streams")
            assert "Retry-After" in response.headers
        assert len(await all_jobs(jobs)) == before
        async with jobs.websocket(socket_path) as refused:
            with pytest.raises(WebsocketResponseError) as answer:
                await refused.receive()
        assert answer.value.response.status_code == 503
        assert (await jobs.head(events)).status_code == 200
        await socket.send_json({"type": "cancel"})
        assert (await told(socket))[1] == 1000
        [told_last] = [await reader.next()]
        assert told_last.name == "cancelled"
    assert len(parts_of(job_app).streams) == 0
    assert (await jobs.get(events)).status_code == 200


@pytest.mark.slow
async def test_who_leaves_before_a_stream_begins_leaves_its_place(jobs: QuartClient, job_app: Quart) -> None:
    streams = parts_of(job_app).streams
    for _ in range(5):
        place = streams.open()
        assert len(streams) == 1
        del place
        gc.collect()
    for body in ({"task": "nonsense"}, {"task": "test", "args": {"nonsense": 1}}):
        response = await jobs.post("/jobs", json=body, headers={"Accept": "text/event-stream"})
        assert response.status_code == 422
    gc.collect()
    assert len(streams) == 0


# Messages


@pytest.mark.parametrize("message", ["a" * 4097, "ä" * 2049, b"a" * 4097])
async def test_a_message_that_is_too_long_is_answered_with_its_problem_and_closes(
    jobs: QuartClient, message: str | bytes
) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
        await socket.send(message)
        messages, code = await told(socket)
    [error] = messages
    assert (error["event"], code) == ("error", 1009)
    assert error["data"]["type"] == "/problems/message-too-large"
    assert error["data"]["status"] == 413
    assert error["data"]["instance"] == job["links"]["websocket"]


async def test_a_message_that_is_just_not_too_long_is_read(jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
        await socket.send(json.dumps({"type": "cancel"}).ljust(4096))
        assert (await told(socket))[1] == 1000


# Other origins

OURS = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture
def shared(settings: Settings) -> QuartClient:
    app = create_app(settings.model_copy(update={"cors_origins": (OURS,)}))
    return cast("QuartClient", app.test_client())


def cors(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control")}


async def test_no_page_of_another_origin_reads_anything_by_default(client: QuartClient) -> None:
    for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        response = await client.open("/get", method=method, headers={"Origin": OURS, **headers})
        assert cors(response) == {}


async def test_a_preflight_of_a_named_origin_hears_what_the_service_takes(shared: QuartClient) -> None:
    response = await shared.options("/add-user", headers={"Origin": OURS, **PREFLIGHT})
    allowed = cors(response)
    assert response.status_code == 204
    assert allowed["access-control-allow-origin"] == OURS
    assert {"GET", "POST", "DELETE"} < set(allowed["access-control-allow-methods"].split(", "))
    assert {"Authorization", "Idempotency-Key", "Prefer"} <= set(allowed["access-control-allow-headers"].split(", "))
    assert "access-control-allow-credentials" not in allowed


@pytest.mark.parametrize("path", ["/get", "/nowhere", "/users?limit=0"])
async def test_every_answer_to_a_named_origin_can_be_read(shared: QuartClient, path: str) -> None:
    response = await shared.get(path, headers={"Origin": OURS})
    assert response.headers["Access-Control-Allow-Origin"] == OURS
    assert "RateLimit" in response.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", OURS + ".evil.example", "http://app.example.com"])
async def test_other_origins_read_nothing(shared: QuartClient, origin: str) -> None:
    response = await shared.get("/get", headers={"Origin": origin})
    assert cors(response) == {}
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": OURS, "Authorization": "Bearer x"}, 422),  # it may, and says nonsense
        ({"Origin": OURS}, 403),
        ({"Origin": OURS, "Cookie": "qaa_session=x"}, 403),
        ({"Origin": "https://evil.example", "Authorization": "Bearer x"}, 403),
    ],
)
async def test_a_page_of_a_named_origin_changes_things_with_a_key_and_never_by_cookie(
    settings: Settings, headers: dict[str, str], status: int
) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": (OURS,)}))
    async with app.test_app():
        sent = {"Sec-Fetch-Site": "cross-site", **headers}
        response = await app.test_client().post("/add-user", json={}, headers=sent)
        assert response.status_code == status
