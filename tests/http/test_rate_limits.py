"""How often each caller may ask, and how many jobs a key may have: what the answers say of it, and the 429."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest
from quart import Quart
from quart.testing import QuartClient
from quart.testing.connections import WebsocketResponseError

from quart_async_api import Settings, create_app
from quart_async_api.access.caller import Scope
from quart_async_api.access.keys import KeyStore
from quart_async_api.http.parts import parts_of

from . import job_tasks
from .conftest import Watch
from .job_tasks import gate
from .test_job_sockets import told
from .test_problems import assert_is_problem

REMOTE = {"server": ("192.0.2.1", 80)}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"rate_limit": "3/hour"})


def at(client: str, **scope: Any) -> dict[str, Any]:
    return {"scope_base": {"client": (client, 1), **scope}}


async def make_key(app: Quart, *scopes: Scope) -> dict[str, str]:
    """The header of a new key, made as the command line makes it."""
    service = parts_of(app)
    with service.database.bind():
        _, text = await KeyStore(service.database, service.commits).create(scopes=scopes)
    return {"Authorization": f"Bearer {text}"}


async def test_each_answer_says_what_is_left_and_one_too_many_is_refused(client: QuartClient) -> None:
    for left in (2, 1, 0):
        response = await client.get("/test" if left else "/nowhere")
        assert response.headers["RateLimit-Policy"] == '"default";q=3;w=3600'
        assert response.headers["RateLimit"] == f'"default";r={left};t=3600'
    response = await client.get("/test")
    document = await response.get_json()
    assert response.status_code == 429
    assert_is_problem(response, document)
    assert document["type"] == "/problems/quota-exceeded"
    assert document["violated-policies"] == ["default"]
    assert response.headers["RateLimit"] == '"default";r=0;t=3600'
    assert response.headers["Retry-After"] == "3600"
    assert (await client.get("/static/request.js")).status_code == 429
    assert (await client.options("/test")).status_code == 429


async def test_health_is_exempt(client: QuartClient) -> None:
    for _ in range(5):
        response = await client.get("/health/live")
        assert response.status_code == 200
        assert "RateLimit" not in response.headers


async def test_addresses_are_counted_apart(client: QuartClient) -> None:
    for _ in range(4):
        limited = await client.get("/test", **at("192.0.2.7"))
    assert limited.status_code == 429
    assert (await client.get("/test", **at("192.0.2.8"))).status_code == 200
    for last in range(4):
        limited = await client.get("/test", **at(f"2001:db8::{last}"))
    assert limited.status_code == 429
    assert (await client.get("/test", **at("2001:db8:0:1::"))).status_code == 200


async def test_a_forged_header_buys_nothing_and_a_trusted_proxys_tells_clients_apart(settings: Settings) -> None:
    behind = create_app(settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8",)}))
    async with behind.test_app():
        client = behind.test_client()

        async def status(peer: str, forwarded: str) -> int:
            response = await client.get("/problems/", headers={"X-Forwarded-For": forwarded}, **at(peer))
            return response.status_code

        forged = [await status("192.0.2.7", f"198.51.100.{number}") for number in range(4)]
        assert forged == [200, 200, 200, 429]
        behind_it = [await status("10.0.0.1", f"198.51.100.{number}") for number in range(4)]
        assert behind_it == [200, 200, 200, 200]
        forged_before = [await status("10.0.0.1", f"203.0.113.{number}, 198.51.100.9") for number in range(4)]
        assert forged_before == [200, 200, 200, 429]


async def test_a_key_has_a_quota_of_its_own_wherever_it_is_used(app: Quart, client: QuartClient) -> None:
    one, other = await make_key(app), await make_key(app)
    statuses = [(await client.get("/users", headers=one, **at(f"192.0.2.{number}"))).status_code for number in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert (await client.get("/users", headers=other, **at("192.0.2.1"))).status_code == 200


async def test_whoever_tries_keys_is_counted_by_address(app: Quart, client: QuartClient) -> None:
    await make_key(app)
    responses = [
        await client.get("/users", headers={"Authorization": f"Bearer {number}"}, **at("192.0.2.1"))
        for number in range(4)
    ]
    assert [response.status_code for response in responses] == [401, 401, 401, 429]
    assert responses[0].headers["RateLimit"] == '"default";r=2;t=3600, "refusals";r=19;t=60'
    assert_is_problem(responses[3], await responses[3].get_json())


async def test_refusals_count_too(client: QuartClient) -> None:
    for _ in range(3):
        assert (await client.get("/users", headers={"Host": "evil.example"})).status_code == 421
    assert (await client.get("/users", headers={"Host": "evil.example"})).status_code == 429


async def test_a_websocket_counts_and_is_refused_before_it_is_accepted(app: Quart) -> None:
    client = app.test_client()
    for _ in range(3):
        async with client.websocket("/jobs/1/ws") as socket:
            assert await told(socket) == ([], 4404)
    async with client.websocket("/jobs/1/ws") as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    response = refused.value.response
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "3600"


async def test_each_message_of_a_websocket_counts_and_one_too_many_does_nothing(app: Quart) -> None:
    client = app.test_client()
    made = await client.post("/jobs", json={"task": "test", "delay": 60})
    job = await made.get_json()
    async with client.websocket(job["links"]["websocket"]) as socket:
        assert (await socket.receive_json())["event"] == "snapshot"
        for message in ("nonsense", json.dumps({"type": "cancel"}), "x" * 5000):
            await socket.send(message)
        errors = [(await socket.receive_json())["data"] for _ in range(3)]
    assert "type" not in errors[0]
    for error in errors[1:]:
        assert (error["status"], error["violated-policies"]) == (429, ["default"])
    assert (await parts_of(app).store.reading.get(job["id"], None)).cancel_requested_at is None


async def test_the_handshake_of_a_websocket_says_what_is_left(app: Quart) -> None:
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "path": "/jobs/1/ws",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "scheme": "ws",
        "client": ("192.0.2.1", 1),
    }
    await app(cast("Any", scope), cast("Any", asyncio.Queue().get), cast("Any", sent.put))
    accepted = sent.get_nowait()
    assert accepted["type"] == "websocket.accept"
    assert (b"ratelimit", b'"default";r=2;t=3600') in accepted["headers"]


@pytest.mark.parametrize(
    ("rate_limit", "scope", "with_key", "limited"),
    [
        (None, {}, False, False),
        (None, {}, True, True),
        (None, REMOTE, False, True),
        ("off", REMOTE, True, False),
        ("9/second", {}, False, True),
    ],
)
async def test_not_set_means_off_on_loopback_until_a_key_is_made(
    settings: Settings, rate_limit: str | None, scope: dict[str, Any], with_key: bool, limited: bool
) -> None:
    changed = settings.model_copy(update={"rate_limit": rate_limit, "allow_anonymous": True})
    app = create_app(changed)
    async with app.test_app():
        headers = await make_key(app) if with_key else {}
        response = await app.test_client().get("/users", headers={"Host": "localhost", **headers}, scope_base=scope)
        assert response.status_code == 200
        assert ("RateLimit" in response.headers) is limited
        if limited and not rate_limit:
            assert '"default";q=600;w=60' in response.headers["RateLimit-Policy"]


@pytest.fixture
def job_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"job_quota": 2, "rate_limit": None, "cancel_seconds": 1})


async def test_a_key_has_so_many_unfinished_jobs(job_settings: Settings, watch: Watch, job_app: Quart) -> None:
    client = job_app.test_client()
    one, other = await make_key(job_app), await make_key(job_app)
    jobs = []
    for _ in range(2):
        response = await client.post("/jobs", json={"task": "held", "args": {"name": "quota"}}, headers=one)
        assert response.status_code == 202
        jobs.append(await response.get_json())
    assert response.headers["RateLimit-Policy"].split(", ") == [
        '"default";q=600;w=60',
        '"jobs";q=2;qu="concurrent-requests"',
        '"kept-jobs";q=1000000',
        '"kept-bytes";q=2147483648;qu="content-bytes"',
    ]

    refused = await client.get("/test", headers={**one, "Prefer": "respond-async"})
    document = await refused.get_json()
    assert refused.status_code == 429
    assert_is_problem(refused, document)
    assert document["violated-policies"] == ["jobs"]
    assert int(refused.headers["Retry-After"]) > 0
    assert (await client.get("/test", headers={**other, "Prefer": "respond-async"})).status_code == 202
    assert (await client.get("/test", headers=one)).status_code == 200  # no job
    gate("quota").set()
    for job in jobs:
        done = await client.get(job["links"]["self"], headers={**one, "Prefer": "wait=30"})
        assert (await done.get_json())["status"] == "succeeded"
    assert (await client.get("/test", headers={**one, "Prefer": "respond-async"})).status_code == 202


async def test_without_a_key_there_is_no_quota_of_jobs(job_app: Quart) -> None:
    client = job_app.test_client()
    for _ in range(3):
        response = await client.post("/jobs", json={"task": "test", "delay": 60})
        assert response.status_code == 202
    assert "RateLimit-Policy" not in response.headers


# Streams


@asynccontextmanager
async def events(app: Quart, headers: dict[str, str], **scope: Any) -> AsyncIterator[dict[str, str]]:
    """An open stream over all jobs; the header fields of its answer."""
    connection = app.test_client().request("/jobs/events", headers=headers, **scope)
    async with connection as stream:
        await stream.send_complete()
        assert (await stream.receive()).startswith(b"retry")
        yield cast("Any", stream).headers
        await stream.disconnect()


async def test_one_key_takes_no_more_streams_than_its_share_and_some_are_kept_for_admins(settings: Settings) -> None:
    changed = settings.model_copy(update={"rate_limit": "off", "max_streams": 4, "stream_quota": 2})
    app = create_app(changed)
    async with app.test_app():
        client = app.test_client()
        one, other, admin = await make_key(app), await make_key(app), await make_key(app, Scope.ADMIN)
        async with AsyncExitStack() as stack:
            for left in (1, 0):
                fields = await stack.enter_async_context(events(app, one))
                assert fields["RateLimit-Policy"] == '"streams";q=2;qu="concurrent-requests"'
                assert fields["RateLimit"] == f'"streams";r={left}'
            response = await client.get("/jobs/events", headers=one)
            document = await response.get_json()
            assert (response.status_code, document["violated-policies"]) == (429, ["streams"])
            assert_is_problem(response, document)
            assert response.headers["RateLimit"] == '"streams";r=0'
            async with client.websocket("/jobs/1/ws", headers=one) as socket:
                with pytest.raises(WebsocketResponseError) as refused:
                    await socket.receive()
            assert refused.value.response.status_code == 429
            await stack.enter_async_context(events(app, other))
            assert (await client.get("/jobs/events", headers=other)).status_code == 503
            await stack.enter_async_context(events(app, admin))
            assert (await client.get("/jobs/events", headers=admin)).status_code == 503
            assert (await client.get("/jobs/events", headers=one)).status_code == 429
        async with events(app, one) as fields:
            assert fields["RateLimit"] == '"streams";r=1'


async def test_without_a_key_the_share_is_an_addresss_and_on_loopback_there_is_none(settings: Settings) -> None:
    changed = settings.model_copy(update={"stream_quota": 1, "allow_anonymous": True, "rate_limit": "off"})
    app = create_app(changed)
    async with app.test_app(), AsyncExitStack() as stack:
        local = {"Host": "localhost"}
        for _ in range(3):
            assert "RateLimit" not in await stack.enter_async_context(events(app, local))
        await stack.enter_async_context(events(app, local, **at("2001:db8::1", **REMOTE)))
        again = await app.test_client().get("/jobs/events", headers=local, **at("2001:db8::2", **REMOTE))
        assert again.status_code == 429
        await stack.enter_async_context(events(app, local, **at("2001:db8:1::1", **REMOTE)))


@pytest.mark.parametrize(
    ("setting", "policy"),
    [({"kept_jobs": 3}, "kept-jobs"), ({"kept_bytes": 3_000}, "kept-bytes"), ({"max_users": 2}, "users")],
)
async def test_nobody_fills_the_disk(settings: Settings, setting: dict[str, int], policy: str) -> None:
    app = create_app(settings.model_copy(update={"rate_limit": None, **setting}), tasks=[job_tasks])
    async with app.test_app():
        client = app.test_client()
        for number in range(10):
            if policy == "users":
                response = await client.post("/add-user", json={"name": "a", "email": f"a{number}@example.com"})
            else:
                response = await client.post("/jobs", json={"task": "long", "args": {"size": 10}})
            if response.status_code == 429:
                break
        document = await response.get_json()
        assert 2 <= number < 10
        assert_is_problem(response, document)
        assert document["violated-policies"] == [policy]
        assert int(response.headers["Retry-After"]) > 0


async def test_users_that_are_added_and_deleted_left_their_answers_without_a_bound(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"kept_bytes": 2_000, "rate_limit": None}))
    async with app.test_app():
        client, headers = app.test_client(), await make_key(app)
        ada = {"name": "Ada", "email": "ada@example.com"}
        for number in range(20):
            response = await client.post("/add-user", json=ada, headers=headers | {"Idempotency-Key": f"k{number}"})
            if response.status_code == 429:
                break
            await client.delete(response.headers["Location"], headers=headers)
        document = await response.get_json()
        assert 2 <= number < 20
        assert_is_problem(response, document)
        assert document["violated-policies"] == ["kept-bytes"]
        assert '"kept-bytes";q=2000;qu="content-bytes"' in response.headers["RateLimit-Policy"]
        assert await (await client.get("/users", headers=headers)).get_json() == []
        # Without a key there is nothing to keep; what was kept is given again.
        assert (await client.post("/add-user", json=ada, headers=headers)).status_code == 201
        again = await client.post("/add-user", json=ada, headers=headers | {"Idempotency-Key": "k0"})
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
