"""A job's events over a WebSocket."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from quart import Quart
from quart.testing import QuartClient
from quart.testing.connections import WebsocketDisconnectError, WebsocketResponseError

from quart_async_api.http.parts import parts_of
from quart_async_api.moments import timestamp
from tests.each import each
from tests.engine.conftest import until
from tests.process.conftest import Start, start

from .conftest import Watch, ended, running, started
from .job_tasks import gate
from .test_jobs import UNKNOWN, in_seconds

__all__ = ["start"]  # the fixture
REMOTE = {"server": ("192.0.2.1", 80)}


def is_accepted(socket: Any) -> bool:
    return bool(socket.accepted)


async def told(socket: Any) -> tuple[list[dict[str, Any]], int]:
    """The messages until the socket is closed, and the code it is closed with."""
    messages = []
    while True:
        try:
            messages.append(json.loads(await socket.receive()))
        except WebsocketDisconnectError as closed:
            return messages, closed.args[0]


async def test_the_events_of_a_job_come_as_messages_until_it_has_ended(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "socket", args={"steps": 2})
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        snapshot = await socket.receive_json()
        gate("socket").set()
        messages, code = await told(socket)
    assert set(snapshot) == {"event", "id", "data"}
    assert (snapshot["event"], snapshot["data"]["status"]) == ("snapshot", "running")
    assert [message["event"] for message in messages] == ["log", "log", "succeeded"]
    assert [message["id"] for message in messages] == [f"{job['id']}:{number}" for number in (2, 3, 4)]
    assert messages[-1]["data"]["result"] == {"name": "socket"}
    assert code == 1000


async def test_a_job_that_has_ended_says_so_at_once(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "raises"))
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        messages, code = await told(socket)
    assert [message["event"] for message in messages] == ["snapshot", "failed"]
    assert code == 1000


@pytest.mark.parametrize(("after", "events"), [("0", ["succeeded"]), ("1", []), ("99", ["snapshot", "succeeded"])])
async def test_a_socket_resumes_after_an_event(jobs: QuartClient, after: str, events: list[str]) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    async with jobs.websocket(f"{job['links']['websocket']}?after={after}") as socket:
        messages, code = await told(socket)
    assert ([message["event"] for message in messages], code) == (events, 1000)


async def test_a_client_can_cancel_the_job(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "socket-cancel")
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
        await socket.send_json({"type": "cancel"})
        messages, code = await told(socket)
    assert [message["event"] for message in messages] == ["cancelled"]
    assert code == 1000


@each(
    "nonsense",
    ["", "cancel", "{", b"\xff\xfe", "[]", "1", "{}", '{"type": "stop"}', '{"type": ["cancel"]}', "[" * 4000],
)
async def test_nonsense_is_answered_with_an_error_and_the_socket_goes_on(
    jobs: QuartClient, nonsense: str | bytes
) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
        await socket.send(nonsense)
        answer = await socket.receive_json()
        assert (answer["event"], answer["id"]) == ("error", None)
        assert answer["data"]["detail"]
        await socket.send_json({"type": "cancel"})
        messages, code = await told(socket)
    assert [message["event"] for message in messages] == ["cancelled"]
    assert code == 1000


@pytest.mark.parametrize("job_id", [UNKNOWN, "1", "%00"])
async def test_a_socket_of_no_job_is_accepted_and_closed(jobs: QuartClient, job_id: str) -> None:
    async with jobs.websocket(f"/jobs/{job_id}/ws") as socket:
        assert await told(socket) == ([], 4404)
        assert is_accepted(socket)


async def test_a_socket_of_an_expired_job_is_accepted_and_closed(job_app: Quart, jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    await parts_of(job_app).store.retention.expire(timestamp(in_seconds(30 * 86_400)), 60)
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        assert await told(socket) == ([], 4410)


async def test_a_drain_closes_the_socket_as_going_away(job_app: Quart, jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
        await parts_of(job_app).lifecycle.drain()
        messages, code = await told(socket)
    assert ([message["event"] for message in messages], code) == (["draining"], 1001)


@each(
    ("headers", "scope", "status"),
    [
        ({"Origin": "https://evil.example"}, {}, 403),
        ({"Origin": "null"}, {}, 403),
        ({"Origin": "http://[x"}, {}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, {}, 403),
        ({"Host": "evil.example"}, {}, 421),
        ({"Host": "192.0.2.1"}, REMOTE, 403),
    ],
)
async def test_who_may_not_is_refused_before_the_socket_is_accepted(
    jobs: QuartClient, headers: dict[str, str], scope: dict[str, Any], status: int
) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"], headers=headers, scope_base=scope) as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
        assert not is_accepted(socket)
    problem = await refused.value.response.get_json()
    assert refused.value.response.status_code == problem["status"] == status
    assert problem["instance"] == job["links"]["websocket"]


async def test_a_page_of_the_service_itself_may_open_it(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    async with jobs.websocket(job["links"]["websocket"], headers={"Origin": "http://localhost"}) as socket:
        assert (await told(socket))[1] == 1000


async def test_a_socket_at_another_address_is_refused(jobs: QuartClient) -> None:
    async with jobs.websocket("/users") as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    assert refused.value.response.status_code in (400, 404)


async def test_a_client_that_leaves_takes_neither_the_job_nor_leaves_a_watcher(
    job_app: Quart, jobs: QuartClient, watch: Watch
) -> None:
    job = await running(jobs, watch, "socket-leaves")
    before = len(asyncio.all_tasks())
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        await socket.receive()
    await until(lambda: parts_of(job_app).feed.watchers == 0)
    await until(lambda: len(asyncio.all_tasks()) <= before)  # a loop of the service may have one for a moment
    gate("socket-leaves").set()
    assert (await ended(jobs, job))["status"] == "succeeded"


@pytest.mark.process
async def test_a_real_server_closes_sockets_with_these_codes_and_refuses_with_403(start: Start) -> None:
    server = await asyncio.to_thread(start)
    base = await asyncio.to_thread(lambda: server.url)

    async def end(socket: aiohttp.ClientWebSocketResponse) -> int | None:
        async for _ in socket:
            pass
        return socket.close_code

    # A connection each: Hypercorn closes one on which it refused a socket, without having said so.
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(force_close=True)) as client:
        async with client.post("/jobs", json={"task": "test"}) as response:
            done = await response.json()
        async with client.ws_connect(done["links"]["websocket"]) as socket:
            assert await end(socket) == 1000
        async with client.ws_connect(f"/jobs/{UNKNOWN}/ws") as socket:
            assert await end(socket) == 4404
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(done["links"]["websocket"], headers=headers)
            assert refused.value.status == 403
        async with client.post("/jobs", json={"task": "test", "delay": 3600}) as response:
            waiting = await response.json()
        async with client.ws_connect(waiting["links"]["websocket"]) as socket:
            assert json.loads((await socket.receive()).data)["event"] == "snapshot"
            server.send()
            assert json.loads((await socket.receive()).data)["event"] == "draining"
            assert await end(socket) == 1001
    assert await asyncio.to_thread(server.wait) == 0
