"""What happens to jobs, as server-sent events: in order, once each, resumed where it broke off."""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.access.admissions import Admission
from quart_async_api.http.delivery.event_stream import Message, messages
from quart_async_api.http.parts import parts_of
from quart_async_api.jobs.events import QUEUE, EventFeed, Watcher
from tests.each import each
from tests.process.conftest import Start, start
from tests.process.wire import PATIENCE, connection, exchange, get, head, post
from tests.server_process import ServerProcess

from . import job_tasks
from .conftest import Told, Watch, ended, read_events, running, started
from .job_tasks import gate

__all__ = ["start"]  # the fixture


def numbers(told: list[Told]) -> list[int]:
    return [int(event.id.rpartition(":")[2]) for event in told]


async def told_to(client: QuartClient, path: str, **headers: str) -> list[Told]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.get(path, headers=named)
    assert response.status_code == 200
    return read_events(await response.get_data(as_text=True))


async def test_a_stream_begins_with_a_snapshot_and_ends_with_the_outcome(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "stream", args={"steps": 3})
    async with watch(job["links"]["events"]) as reader:
        snapshot = await reader.next()
        gate("stream").set()
    told = reader.rest()
    assert snapshot.name == "snapshot"
    assert (snapshot.data["id"], snapshot.data["status"]) == (job["id"], "running")
    assert [event.name for event in told] == ["log", "log", "log", "succeeded"]
    assert [event.data["text"] for event in told[:3]] == ["step 0", "step 1", "step 2"]
    assert [event.id for event in (snapshot, *told)] == [f"{job['id']}:{number}" for number in range(1, 6)]
    assert (told[-1].data["status"], told[-1].data["result"]) == ("succeeded", {"name": "stream"})
    headers = reader.connection.headers
    assert headers is not None
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"
    assert not {"ETag", "Content-Length", "Transfer-Encoding"} & set(headers.keys())


async def test_a_stream_tells_when_to_reconnect(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    text = await (await jobs.get(job["links"]["events"])).get_data(as_text=True)
    assert text.startswith("retry: 3000\n\n")


@pytest.mark.parametrize(("task", "last"), [("test", "succeeded"), ("raises", "failed")])
async def test_the_stream_of_a_job_that_has_ended_says_so_and_ends(jobs: QuartClient, task: str, last: str) -> None:
    job = await ended(jobs, await started(jobs, task))
    told = await told_to(jobs, job["links"]["events"])
    assert [event.name for event in told] == ["snapshot", last]
    resumed = await told_to(jobs, job["links"]["events"], Last_Event_ID=told[0].id)
    assert resumed == told[1:]  # whoever was cut off between the two gets the second


async def test_a_retry_is_an_event(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "second-time"))
    told = await told_to(jobs, job["links"]["events"], Last_Event_ID=f"{job['id']}:0")
    assert [event.name for event in told] == ["retry", "succeeded"]
    assert told[0].data["attempt"] == 1
    assert told[0].data["error"]["status"] == 500


async def test_a_cancelled_job_ends_its_stream(jobs: QuartClient, watch: Watch) -> None:
    job = await started(jobs, "test", delay=60)
    async with watch(job["links"]["events"]) as reader:
        assert (await reader.next()).name == "snapshot"
        await jobs.delete(job["links"]["self"])
    assert [event.name for event in reader.rest()] == ["cancelled"]


async def test_a_reconnect_gets_just_what_it_missed(jobs: QuartClient, watch: Watch) -> None:
    job = await running(jobs, watch, "missed", args={"steps": 8})
    gate("missed").set()
    await ended(jobs, job)
    whole = await told_to(jobs, job["links"]["events"], Last_Event_ID=f"{job['id']}:0")
    assert numbers(whole) == list(range(1, 11))
    for seen in range(10):
        part = await told_to(jobs, job["links"]["events"], Last_Event_ID=f"{job['id']}:{seen}")
        assert part == whole[seen:]
        assert await told_to(jobs, f"{job['links']['events']}?last_event_id={job['id']}:{seen}") == part


async def test_a_reconnect_past_the_end_is_told_to_stop(jobs: QuartClient) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    last = (await told_to(jobs, job["links"]["events"]))[-1].id
    response = await jobs.get(job["links"]["events"], headers={"Last-Event-ID": last})
    assert (response.status_code, await response.get_data()) == (204, b"")


@each("last", ["nonsense", "1", ":", ":1", "x:1", "{id}:999999", "{id}:-1", "{id}:x", "{id}:%C2%B2"])
async def test_an_event_id_that_is_not_of_this_job_begins_anew(jobs: QuartClient, last: str) -> None:
    job = await ended(jobs, await started(jobs, "test"))
    told = await told_to(jobs, f"{job['links']['events']}?last_event_id={last.format(id=job['id'])}")
    assert [event.name for event in told] == ["snapshot", "succeeded"]


@pytest.mark.slow
async def test_a_quiet_stream_is_kept_alive_by_comments(job_app: Quart, jobs: QuartClient) -> None:
    parts = parts_of(job_app)
    job = await started(jobs, "test", delay=60)
    told = messages(parts.store, parts.feed, parts.lifecycle, job["id"], None, Admission(), quiet=0)
    snapshot, quiet, still_quiet = [await anext(told) for _ in range(3)]
    assert isinstance(snapshot, Message)
    assert quiet is still_quiet is None
    await jobs.delete(job["links"]["self"])
    assert [message.name async for message in told if message] == ["cancelled"]


async def test_who_cannot_keep_up_is_told_to_start_over(job_app: Quart, jobs: QuartClient, watch: Watch) -> None:
    parts = parts_of(job_app)
    job = await running(jobs, watch, "overrun", args={"steps": QUEUE + 10})
    slow = messages(parts.store, parts.feed, parts.lifecycle, job["id"], None, Admission())
    first = await anext(slow)
    assert first is not None
    assert first.name == "snapshot"
    gate("overrun").set()
    async with watch(job["links"]["events"]):
        pass  # another has seen all of it
    rest = [message async for message in slow if message]
    assert [message.name for message in rest] == ["resync", "succeeded"]
    assert rest[0].data["status"] == "succeeded"
    assert rest[1].id == f"{job['id']}:{QUEUE + 12}"


@pytest.mark.slow
async def test_five_thousand_watchers_cost_as_many_reads_of_the_events_as_one(
    job_app: Quart, jobs: QuartClient, watch: Watch
) -> None:
    parts = parts_of(job_app)
    job = await running(jobs, watch, "crowd", args={"steps": 3})
    streams = [messages(parts.store, parts.feed, parts.lifecycle, job["id"], None, Admission()) for _ in range(5000)]
    for stream in streams:
        await anext(stream)
    reads = parts.feed.reads

    async def rest(stream: object) -> list[str]:
        return [message.name async for message in stream if message]  # type: ignore[attr-defined]

    everyone = [asyncio.create_task(rest(stream)) for stream in streams]
    gate("crowd").set()
    assert {tuple(names) for names in await asyncio.gather(*everyone)} == {("log", "log", "log", "succeeded")}
    assert parts.feed.reads - reads < 20
    assert parts.feed.watchers == 0


async def test_watchers_share_the_bytes_of_each_event_and_have_no_timer_each(
    job_app: Quart, jobs: QuartClient, watch: Watch
) -> None:
    parts, loop = parts_of(job_app), asyncio.get_running_loop()
    job = await running(jobs, watch, "few", args={"steps": 3})
    streams = [messages(parts.store, parts.feed, parts.lifecycle, job["id"], None, Admission()) for _ in range(200)]
    for stream in streams:
        await anext(stream)
    timers, call_at = 0, loop.call_at

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal timers
        timers += 1
        return call_at(*args, **options)

    async def rest(stream: AsyncIterator[Message | None]) -> list[bytes]:
        return [message.encode() async for message in stream if message]

    with patch.object(loop, "call_at", counted):
        everyone = [asyncio.create_task(rest(stream)) for stream in streams]
        gate("few").set()
        sent = await asyncio.gather(*everyone)
    assert {tuple(map(id, encoded)) for encoded in sent} == {tuple(map(id, sent[0]))}
    assert len(sent[0]) == 4
    assert timers < 50


async def test_all_jobs_have_one_stream_too(jobs: QuartClient, watch: Watch) -> None:
    async with watch("/jobs/events") as reader:
        first = await ended(jobs, await started(jobs, "test"))
        second = await ended(jobs, await started(jobs, "raises"))
        told = [await reader.next(), await reader.next()]
        await reader.leave()
    assert [(event.name, event.data["job_id"]) for event in told] == [
        ("succeeded", first["id"]),
        ("failed", second["id"]),
    ]
    assert [event.id for event in told] == [f"{first['id']}:1", f"{second['id']}:1"]
    async with watch("/jobs/events", Last_Event_ID=told[0].id) as reader:
        assert await reader.next() == told[1]
        await reader.leave()


async def test_who_has_the_beginning_of_the_stream_of_all_jobs_misses_nothing(
    jobs: QuartClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined, joins = asyncio.Event(), EventFeed.watch

    @asynccontextmanager
    async def late(self: EventFeed, job_id: str | None, quiet: float = math.inf) -> AsyncIterator[Watcher]:
        await joined.wait()
        async with joins(self, job_id, quiet) as watcher:
            yield watcher

    monkeypatch.setattr(EventFeed, "watch", late)
    async with watch("/jobs/events") as reader:
        job = await ended(jobs, await started(jobs, "test"))
        joined.set()
        assert (await reader.next()).data["job_id"] == job["id"]
        await reader.leave()


async def test_a_drain_is_the_last_event_of_every_stream(job_app: Quart, jobs: QuartClient, watch: Watch) -> None:
    job = await started(jobs, "test", delay=60)
    async with watch(job["links"]["events"]) as one, watch("/jobs/events") as every:
        assert (await one.next()).name == "snapshot"
        await parts_of(job_app).lifecycle.drain()
    assert [event.name for event in one.rest()] == [event.name for event in every.rest()] == ["draining"]


async def test_a_stream_goes_on_after_a_restart(job_settings: Settings) -> None:
    first = create_app(job_settings, tasks=[job_tasks])
    async with first.test_app():
        client = first.test_client()
        job = await (await client.post("/jobs", json={"task": "long", "delay": 60})).get_json()
        async with client.request(job["links"]["events"]) as stream:
            await stream.send_complete()
            while b"snapshot" not in await stream.receive():
                pass
            await first.extensions["quart_async_api"].lifecycle.drain()
    second = create_app(job_settings, tasks=[job_tasks])
    async with second.test_app():
        client = second.test_client()
        assert (await client.delete(job["links"]["self"])).status_code == 204
        response = await client.get(job["links"]["events"], headers={"Last-Event-ID": f"{job['id']}:0"})
        assert [event.name for event in read_events(await response.get_data(as_text=True))] == ["cancelled"]


async def test_head_on_a_stream_waits_for_nothing(jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    for path in (job["links"]["events"], "/jobs/events"):
        response = await jobs.head(path)
        assert (response.status_code, response.mimetype) == (200, "text/event-stream")


# On the wire


def read_until(link: socket.socket, sign: bytes) -> bytes:
    received = b""
    while sign not in received:
        part = link.recv(65536)
        assert part, received
        received += part
    return received


@pytest.mark.process
def test_a_stream_is_resumed_over_the_wire_after_the_server_was_killed(start: Start) -> None:
    server = start(QAA_DELAY="1")
    with connection(server.port) as link:
        link.sendall(head("GET", "/start-task", "Accept: text/event-stream"))
        seen = read_until(link, b"event: progress").decode()
        server.stop(9)  # type: ignore[arg-type]
    last = [line.partition("id: ")[2] for line in seen.splitlines() if line.startswith("id: ")][-1]
    job_id, _, number = last.rpartition(":")
    again = start(QAA_DELAY="1")
    reply = get(again.port, f"/jobs/{job_id}/events", f"Last-Event-ID: {last}")
    told = read_events(reply.body.decode())
    assert numbers(told) == list(range(int(number) + 1, int(number) + 1 + len(told)))
    assert told[-1].name == "succeeded"
    assert "snapshot" not in {event.name for event in told}
    reply = get(again.port, "/start-task", f"Last-Event-ID: {told[-1].id}", "Accept: text/event-stream")
    assert reply.status == 204
    assert len(get(again.port, "/jobs").json["items"]) == 1


def hang_up(server: ServerProcess, target: str, sign: bytes, clients: int, *fields: str) -> None:
    """So many clients that read until they have seen `sign`, and go."""
    links = []
    try:
        for _ in range(clients):
            links.append(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
            links[-1].sendall(head("GET", target, *fields))
        for link in links:
            read_until(link, sign)
    finally:
        for link in links:
            link.close()


@pytest.mark.process
def test_hundreds_of_clients_that_hang_up_lose_no_job(start: Start) -> None:
    """Two thousand of them: tests/process/test_jobs_faults.py."""
    server = start(QAA_DELAY="2", QAA_JOB_CONCURRENCY="500")
    watched = post(server.port, "/jobs", {"task": "test", "delay": 3600}).json
    hang_up(server, watched["links"]["events"], b"event: snapshot", 250)
    hang_up(server, "/test", b"event: snapshot", 250, "Accept: text/event-stream")
    server.wait_for(r"GET /jobs/\S+/events (200|499) ", 250)
    exchange(server.port, head("DELETE", watched["links"]["self"]))
    counts: dict[str, int] = {}
    newest = get(server.port, "/jobs?limit=1&task=test").json["items"][0]
    assert exchange(server.port, head("GET", newest["links"]["self"], "Prefer: wait=30")).json["status"] == "succeeded"
    following = "/jobs?limit=100"
    while following:
        page = json.loads(get(server.port, following).body)
        for job in page["items"]:
            counts[job["status"]] = counts.get(job["status"], 0) + 1
        following = page["next"] and page["next"].partition("localhost")[2]
    assert counts == {"succeeded": 250, "cancelled": 1}
    assert server.stop() == 0


def test_an_event_is_encoded_once_for_all_streams_and_sockets() -> None:
    message = Message("progress", {"current": 1}, "job:1")
    assert message.encode() is message.encode()
    assert message.as_text() is message.as_text()
    assert json.loads(message.as_text()) == {"event": "progress", "id": "job:1", "data": {"current": 1}}
