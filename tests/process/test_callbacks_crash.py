"""Callbacks of a real server that is killed, or stopped, while it sends them."""

import asyncio
import random
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from tests.process.callback_receiver import Receiver, Seen, share_secret
from tests.process.conftest import CHECKOUT, Start
from tests.process.wire import get, post
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

CLIENTS = 8
ORIGINS = 4
PROMPTLY = 30.0  # seconds, on a busy machine: less than what a stop that waits for it would take
TRIES = 30


class Receive(Protocol):
    def __call__(self, answer: Callable[[], tuple[float, int]] = ..., *, origins: int = ...) -> Receiver: ...


@pytest.fixture
def receive() -> Iterator[Receive]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Receiver(*args, **options))


def start_sending(start: Start, database_file: Path, **settings: str) -> ServerProcess:
    share_secret(database_file)
    return start(
        QAA_TASKS="tests.process.job_tasks",
        PYTHONPATH=str(CHECKOUT),
        QAA_CALLBACK_ALLOW_PRIVATE="1",
        QAA_CALLBACK_SCHEDULE=",".join(["0", *["0.05"] * (TRIES - 1)]),
        QAA_CRASH_LIMIT="1000",
        **settings,
    )


class Load:
    """Clients that submit jobs with callbacks, until the server is gone."""

    def __init__(self, folder: Path, urls: list[str], random_: random.Random) -> None:
        self.folder = folder
        self.urls = urls
        self.random = random_
        self.accepted: set[str] = set()

    async def submit(self, url: str) -> None:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60)) as session:
            while True:
                seconds = round(self.random.uniform(0, 0.3), 3)
                job = {
                    "task": "traced",
                    "args": {"folder": str(self.folder), "seconds": seconds},
                    "callback_url": self.random.choice(self.urls),
                }
                try:
                    async with session.post("/jobs", json=job) as response:
                        assert response.status == 202, await response.text()
                        self.accepted.add((await response.json())["id"])
                    await asyncio.sleep(0.02)
                except (aiohttp.ClientError, OSError):
                    return

    async def until_killed(self, server: ServerProcess, seconds: float) -> None:
        before = len(self.accepted)
        clients = [asyncio.create_task(self.submit(server.url)) for _ in range(CLIENTS)]
        await asyncio.sleep(seconds)  # the moment of the kill is the test's input, not something that is waited for
        while len(self.accepted) <= before + 10 and not all(client.done() for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a busy machine has accepted few until then
        server.send(signal.SIGKILL)
        await asyncio.gather(*clients)


def rows(database_file: Path, query: str) -> list[Any]:
    with sqlite3.connect(database_file) as database:
        found = database.execute(query).fetchall()
    database.close()
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def callbacks(server: ServerProcess, jobs: set[str]) -> dict[str, list[dict[str, Any]]]:
    """What the service says of the callbacks of each job."""
    async with aiohttp.ClientSession(server.url) as session:

        async def of(job: str) -> tuple[str, list[dict[str, Any]]]:
            async with session.get(f"/jobs/{job}/callbacks") as response:
                return job, (await response.json())["items"]

        return dict([await of(job) for job in jobs])


def kill_again_and_again(start: Start, receive: Receive, database_file: Path, rounds: int, seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311  that a failure can be repeated
    answers = random.Random(seed)  # noqa: S311  of the receiver's thread

    def answer() -> tuple[float, int]:
        return answers.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1)), answers.choice((204, 200, 202, 204, 204, 500))

    receiver = receive(answer, origins=ORIGINS)
    load = Load(database_file.parent, receiver.urls, random_)
    for _ in range(rounds):
        server = start_sending(start, database_file)
        asyncio.run(load.until_killed(server, random_.uniform(0.2, 1.2)))
        assert server.wait() == -signal.SIGKILL
    server = start_sending(start, database_file)
    wait_until(lambda: not rows(database_file, "SELECT 1 FROM jobs WHERE finished_at IS NULL"), 60 + rounds)
    wait_until(
        lambda: not rows(database_file, "SELECT 1 FROM callback_deliveries WHERE status = 'pending'"), 60 + 5 * rounds
    )
    said = asyncio.run(callbacks(server, load.accepted))
    assert server.stop() == 0

    assert not receiver.faults
    assert len(load.accepted) > rounds * 10
    seen: dict[str, list[Seen]] = defaultdict(list)
    for one in receiver.seen:
        seen[one.job].append(one)
    for job in load.accepted:
        [callback] = said[job]
        assert (callback["type"], callback["status"]) == ("job.succeeded", "delivered")
        assert {one.message_id for one in seen[job]} == {callback["id"]}, "a try under another webhook-id"
        assert len({one.body for one in seen[job]}) == 1, "another body under the same webhook-id"
        assert [attempt["number"] for attempt in callback["attempts"]] == [*range(1, len(callback["attempts"]) + 1)]
        assert len(callback["attempts"]) <= len(seen[job])
        *failed, last = callback["attempts"]
        assert 200 <= last["status"] < 300
        assert {attempt["status"] for attempt in failed} <= {500, None}, "sent again after it was known to be delivered"
        assert last["status"] in [one.status for one in seen[job]]
    doubled = "SELECT job_id FROM callback_deliveries GROUP BY job_id HAVING COUNT(*) > 1"
    assert rows(database_file, doubled) == []
    untold = "SELECT id FROM jobs WHERE id NOT IN (SELECT job_id FROM callback_deliveries)"
    assert rows(database_file, untold) == [], "a job ended, and there is no callback of it"
    assert rows(database_file, "SELECT origin FROM callback_queues WHERE worker IS NOT NULL") == []


@pytest.mark.parametrize("seed", [7])
def test_every_job_is_called_back_under_one_id_though_the_process_is_killed_while_it_sends(
    start: Start, receive: Receive, database_file: Path, seed: int
) -> None:
    kill_again_and_again(start, receive, database_file, 3, seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_job_is_called_back_under_one_id_in_thirty_kills(
    start: Start, receive: Receive, database_file: Path
) -> None:
    kill_again_and_again(start, receive, database_file, 30, random.SystemRandom().randrange(1_000_000))


def submit(server: ServerProcess, url: str) -> str:
    reply = post(server.port, "/jobs", {"task": "where", "callback_url": url})
    assert reply.status == 202, reply
    return str(reply.json["id"])


def of_job(server: ServerProcess, job: str) -> dict[str, Any]:
    [callback] = get(server.port, f"/jobs/{job}/callbacks").json["items"]
    return dict(callback)


def test_a_stop_in_the_middle_of_a_send_does_not_wait_for_it_and_the_next_process_sends_it(
    start: Start, receive: Receive, database_file: Path
) -> None:
    receiver = receive()
    receiver.held = True
    server = start_sending(start, database_file, QAA_DRAIN_SECONDS="1", QAA_CALLBACK_TIMEOUT="300")
    job = submit(server, receiver.urls[0])
    wait_until(lambda: receiver.seen)
    assert server.stop(seconds=PROMPTLY) == 0, server.log
    assert rows(database_file, "SELECT status, tries FROM callback_deliveries") == [("pending", 0)]
    assert rows(database_file, "SELECT worker FROM callback_queues") == [(None,)]
    receiver.held = False
    again = start_sending(start, database_file)
    wait_until(lambda: of_job(again, job)["status"] == "delivered")
    first, second = receiver.seen
    assert first == second
    assert len(of_job(again, job)["attempts"]) == 1


def test_a_send_that_ends_within_the_drain_is_written_down_and_not_sent_again(
    start: Start, receive: Receive, database_file: Path
) -> None:
    receiver = receive()
    receiver.held = True
    server = start_sending(start, database_file, QAA_DRAIN_SECONDS="120", QAA_CALLBACK_TIMEOUT="120")
    job = submit(server, receiver.urls[0])
    wait_until(lambda: receiver.seen)
    server.send(signal.SIGTERM)
    wait_until(lambda: get(server.port, "/health/ready").status == 503)
    receiver.held = False
    assert server.wait() == 0, server.log
    assert rows(database_file, "SELECT status FROM callback_deliveries") == [("delivered",)]
    again = start_sending(start, database_file)
    other = submit(again, receiver.urls[0])
    get(again.port, f"/jobs/{other}", "Prefer: wait=30")  # its callback is there when it has ended
    wait_until(lambda: of_job(again, other)["status"] == "delivered")
    assert [one.job for one in receiver.seen] == [job, other]


def test_the_callbacks_of_a_killed_process_are_sent_by_the_other(
    start: Start, receive: Receive, database_file: Path
) -> None:
    receiver = receive(origins=ORIGINS)
    receiver.held = True
    first = start_sending(start, database_file)
    jobs = [submit(first, url) for url in receiver.urls]
    wait_until(lambda: len(receiver.seen) == ORIGINS)
    second = start_sending(start, database_file)
    assert get(second.port, "/health/ready").status == 200
    assert len(rows(database_file, "SELECT 1 FROM callback_queues WHERE worker IS NOT NULL")) == ORIGINS
    first.stop(signal.SIGKILL)
    receiver.held = False
    wait_until(lambda: all(of_job(second, job)["status"] == "delivered" for job in jobs), 5)
    assert len(receiver.seen) == 2 * ORIGINS
    assert len(set(receiver.seen)) == ORIGINS
