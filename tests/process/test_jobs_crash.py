"""Durable jobs of a real server that is killed, or stopped, while it runs them."""

import asyncio
import random
import signal
import sqlite3
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.process.conftest import CHECKOUT, Start
from tests.process.wire import get, post
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

TERMINAL = ("succeeded", "failed", "cancelled")
CLIENTS = 8
PROMPTLY = 30.0  # seconds, on a busy machine: less than what a stop that waits for it would take


def start_traced(start: Start, **settings: str) -> ServerProcess:
    return start(QAA_TASKS="tests.process.job_tasks", PYTHONPATH=str(CHECKOUT), **settings)


class Load:
    """Clients that submit jobs as fast as they are taken, until the server is gone."""

    def __init__(self, folder: Path, random_: random.Random) -> None:
        self.folder = folder
        self.random = random_
        self.accepted: set[str] = set()
        self.cut = 0  # answers that never came: their jobs may be there or not
        self.refused = 0

    async def submit(self, url: str) -> None:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60)) as session:
            while True:
                arguments = {"folder": str(self.folder), "seconds": round(self.random.uniform(0, 0.3), 3)}
                try:
                    async with session.post("/jobs", json={"task": "traced", "args": arguments}) as response:
                        if response.status == 202:
                            self.accepted.add((await response.json())["id"])
                        else:
                            self.refused += 1
                except aiohttp.ClientConnectorError:
                    return
                except (aiohttp.ClientError, OSError):
                    self.cut += 1
                    return

    async def until_killed(self, server: ServerProcess, seconds: float) -> None:
        before = len(self.accepted)
        clients = [asyncio.create_task(self.submit(server.url)) for _ in range(CLIENTS)]
        await asyncio.sleep(seconds)  # the moment of the kill is the test's input, not something that is waited for
        while len(self.accepted) <= before + 10 and not all(client.done() for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a busy machine has accepted few until then
        server.send(signal.SIGKILL)
        await asyncio.gather(*clients)


def statuses(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "app.db") as database:
        rows = dict(database.execute("SELECT id, status FROM jobs").fetchall())
    database.close()
    return rows


def traces(folder: Path) -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in (folder / "ran").read_text().splitlines():
        job_id, attempt, what = line.split()
        found[job_id].append((int(attempt), what))
    return found


def wait_until_all_ended(folder: Path) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while True:
        found = statuses(folder)
        if all(status in TERMINAL for status in found.values()):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def kill_again_and_again(start: Start, folder: Path, rounds: int, seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311  that a failure can be repeated
    load = Load(folder, random_)
    ended: dict[str, str] = {}
    ran: dict[str, list[tuple[int, str]]] = {}
    for _ in range(rounds):
        server = start_traced(start, QAA_CRASH_LIMIT="1000")
        asyncio.run(load.until_killed(server, random_.uniform(0.1, 1.2)))
        assert server.wait() == -signal.SIGKILL
        now = statuses(folder)
        assert load.accepted <= set(now), "a job whose 202 was sent is gone"
        for job_id, status in ended.items():
            assert now[job_id] == status, "a terminal state changed"
        after = traces(folder)
        for job_id, lines in ran.items():
            assert after[job_id] == lines, "a job that had ended ran again"
        ended = {job_id: status for job_id, status in now.items() if status in TERMINAL}
        ran = {job_id: after[job_id] for job_id in ended}
    start_traced(start, QAA_CRASH_LIMIT="1000")
    last = wait_until_all_ended(folder)
    assert set(last.values()) == {"succeeded"}
    assert load.accepted <= set(last)
    assert len(last) - len(load.accepted) <= load.cut
    assert len(load.accepted) > rounds * 10
    assert not load.refused
    for job_id, lines in traces(folder).items():
        begun = [attempt for attempt, what in lines if what == "began"]
        assert begun == sorted(set(begun)), f"an attempt of {job_id} began twice"
        assert lines[-1][1] == "ended"
    with sqlite3.connect(folder / "app.db") as database:
        doubled = database.execute(
            "SELECT job_id FROM job_events WHERE name = 'succeeded' GROUP BY job_id HAVING COUNT(*) > 1"
        ).fetchall()
    database.close()
    assert doubled == []


@pytest.mark.parametrize("seed", [20])
def test_nothing_accepted_is_lost_and_nothing_ended_runs_again_when_the_process_is_killed(
    start: Start, tmp_path: Path, seed: int
) -> None:
    kill_again_and_again(start, tmp_path, 3, seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_nothing_accepted_is_lost_in_fifty_kills(start: Start, tmp_path: Path) -> None:
    kill_again_and_again(start, tmp_path, 50, random.SystemRandom().randrange(1_000_000))


def submit(server: ServerProcess, task: str, **arguments: object) -> str:
    reply = post(server.port, "/jobs", {"task": task, "args": arguments})
    assert reply.status == 202, reply
    return str(reply.json["id"])


def wait_until_running(server: ServerProcess, *jobs: str) -> None:
    deadline = time.monotonic() + 60
    for job in jobs:
        while get(server.port, f"/jobs/{job}").json["status"] != "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_stop_ends_streams_and_sockets_and_gives_unfinished_jobs_back(start: Start, tmp_path: Path) -> None:
    server = start_traced(start, QAA_DRAIN_SECONDS="1")
    long = submit(server, "traced", folder=str(tmp_path), seconds=300)
    short = submit(server, "traced", folder=str(tmp_path), seconds=0.5)
    wait_until_running(server, long)

    async def watch() -> tuple[list[str], list[str], int | None, int]:
        async with aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(total=60)) as session:
            streams = [await session.get(f"/jobs/{long}/events") for _ in range(20)]
            everything = await session.get("/jobs/events")
            sockets = [await session.ws_connect(f"/jobs/{long}/ws") for _ in range(20)]
            for stream in streams:
                await stream.content.readuntil(b"event: snapshot")
            for socket in sockets:
                assert (await socket.receive_json())["event"] == "snapshot"
            server.send(signal.SIGTERM)
            texts = [(await stream.read()).decode() for stream in (*streams, everything)]
            last, codes = [], set()
            for socket in sockets:
                last.append((await socket.receive_json())["event"])
                closing = await socket.receive()
                assert closing.type is aiohttp.WSMsgType.CLOSE
                codes.add(closing.data)  # close_code is another where our end of the closing came too late
            code = await asyncio.to_thread(server.wait, PROMPTLY)
            assert len(codes) == 1
            return texts, last, codes.pop(), code

    texts, last, close_code, code = asyncio.run(watch())
    assert code == 0, server.log
    assert all("event: draining" in text for text in texts)
    assert set(last) == {"draining"}
    assert close_code == 1001

    assert statuses(tmp_path) == {long: "queued", short: "succeeded"}
    with sqlite3.connect(tmp_path / "app.db") as database:
        assert database.execute("SELECT attempt, crashes, run_token FROM jobs WHERE id = ?", (long,)).fetchone() == (
            0,
            0,
            None,
        )
        assert database.execute("SELECT COUNT(*) FROM workers").fetchone() == (0,)
    database.close()
    again = start_traced(start)
    wait_until_running(again, long)
    assert get(again.port, f"/jobs/{long}").json["attempt"] == 1
    assert traces(tmp_path)[long] == [(1, "began"), (1, "began")]


@pytest.mark.parametrize("task", ["stubborn", "leaky"])
def test_a_run_that_swallows_its_cancellation_does_not_hold_the_stop(start: Start, tmp_path: Path, task: str) -> None:
    server = start_traced(start, QAA_DRAIN_SECONDS="0.5")
    job = submit(server, task)
    if task == "stubborn":
        wait_until_running(server, job)
    else:
        wait_until_all_ended(tmp_path)
    assert server.stop(seconds=PROMPTLY) == 0
    assert statuses(tmp_path)[job] == ("queued" if task == "stubborn" else "succeeded")


def test_the_jobs_of_a_killed_process_go_on_at_once_in_another(start: Start, tmp_path: Path) -> None:
    first = start_traced(start, QAA_LEASE_SECONDS="300")
    job = submit(first, "once-more")
    wait_until_running(first, job)
    second = start_traced(start, QAA_LEASE_SECONDS="300")  # for which nobody waits: the lock of the dead one is free
    assert get(second.port, "/health/live").status == 200
    first.send(signal.SIGKILL)
    with suppress(OSError):
        first.wait()
    reply = get(second.port, f"/jobs/{job}", "Prefer: wait=30")
    assert (reply.json["status"], reply.json["attempt"], reply.json["result"]) == ("succeeded", 2, 2)
    assert [attempt["outcome"] for attempt in reply.json["attempts"]] == ["crashed", "succeeded"]
