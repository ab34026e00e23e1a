"""Open streams and sockets end with the key or session that they were opened by, though nothing happens on them."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api.http.parts import parts_of

from .conftest import pass_time, started
from .job_tasks import gate
from .test_access import (
    Make,
    _all_is_logged,
    _closed_in_the_end,
    app,
    bearer,
    client,
    make,
    session_of,
    sign_in,
    signed,
    store_of,
    ticket_of,
)

__all__ = ["_all_is_logged", "app", "client", "make"]  # the fixtures
PATIENCE = 10.0  # shorter than the time to the next ping

TABLE = [
    ("key", "revoked"),
    ("key", "expired"),
    ("session", "revoked"),
    ("session", "key expired"),
    ("session", "expired"),
    ("session", "signed out"),
    ("ticket", "revoked"),
    ("ticket of a session", "signed out"),
    ("ticket of a session", "expired"),
    ("nothing", "a first key is made"),
]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quart_async_api.access.admissions.EVERY_SECONDS", 0.1)


async def end_it(app: Quart, client: QuartClient, make: Make, how: str, opened: dict[str, str]) -> None:
    service = parts_of(app)
    if how == "revoked":
        await store_of(app).revoke("alice")
    elif how == "signed out":
        assert (await client.post("/sign-out", headers=opened)).status_code == 303
    elif how == "a first key is made":
        await make("first")
    else:
        pass_time(app, days=2 if how == "key expired" else 0, seconds=service.settings.session_ttl)


@pytest.mark.parametrize(("by", "how"), TABLE)
async def test_a_quiet_stream_and_socket_outlived_what_they_were_opened_by(
    app: Quart, client: QuartClient, make: Make, by: str, how: str
) -> None:
    service = parts_of(app)
    opened: dict[str, str] = {}
    starts = client
    if by != "nothing":
        lifetime = (
            {"expired": service.settings.session_ttl, "key expired": 2 * 86_400}.get(how) if by == "key" else None
        )
        starts = signed(app, key := await make("alice", lifetime=lifetime))
        if by == "key":
            opened = bearer(key)
        elif "session" in by:
            opened = {"Cookie": f"qaa_session={session_of(await sign_in(client, key))}"}
    job = await started(starts, "test", delay=3600)

    async def query() -> str:
        if not by.startswith("ticket"):
            return ""
        if by == "ticket":
            return f"?ticket={await ticket_of(client, key)}"
        response = await client.post("/tickets", headers=opened)
        return f"?ticket={(await response.get_json())['ticket']}"

    gate_name = f"{by}-{how}".replace(" ", "-")
    credentials = {} if by.startswith("ticket") else opened
    async with AsyncExitStack() as stack:
        ends: list[Any] = []
        for path in ("/jobs/events", job["links"]["events"], "/held"):
            sent = {"Accept": "text/event-stream"} | credentials
            arguments = (await query(), f"name={gate_name}")
            target = f"{path}?{'&'.join(each.lstrip('?') for each in arguments if each)}"
            stream: Any = await stack.enter_async_context(cast("Any", client.request(target, headers=sent)))
            await stream.send_complete()
            assert b"retry" in await stream.receive()
            ends.append(stream.as_response())
        path = job["links"]["websocket"] + await query()
        socket: Any = await stack.enter_async_context(cast("Any", client.websocket(path, headers=credentials)))
        assert (await socket.receive_json())["event"] == "snapshot"
        await service.admissions.loop.work()  # all have been looked at once
        await end_it(app, client, make, how, opened)
        async with asyncio.timeout(PATIENCE):
            *_, closed = await asyncio.gather(*ends, _closed_in_the_end(socket))
    gate(gate_name).set()
    assert closed[0] == 3000
    assert not service.admissions._open
