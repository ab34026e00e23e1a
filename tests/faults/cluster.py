"""Three servers on one database, killed, paused and stopped at random while clients use them; all of it is recorded."""

import asyncio
import json
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psycopg
from psycopg.rows import dict_row

from tests.faults import tasks
from tests.faults.history import DRAIN_SECONDS, LEASE_SECONDS, TERMINAL, Answer, Fault, History, Row
from tests.postgresql import of_psycopg
from tests.server_process import PROGRAM, ServerProcess

CHECKOUT = Path(__file__).parents[2]
PAUSES = (0.2, LEASE_SECONDS * 1.5)
LOOK_SECONDS = 0.2  # between looks at the heartbeats
CLIENTS = 4
PATIENCE = 60.0
_QUERIES = {
    "jobs": "SELECT id, status, args, attempt, max_attempts, failures, crashes, last_event, result, error, finished_at "
    "FROM jobs",
    "attempts": "SELECT job_id, number, outcome FROM job_attempts",
    "events": "SELECT job_id, number, name, data FROM job_events",
    "workers": "SELECT id FROM workers",
}


def rows(url: str, query: str) -> list[Row]:
    if url.startswith("sqlite://"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
    with psycopg.connect(of_psycopg(url), row_factory=dict_row) as server:
        return server.execute(query.encode()).fetchall()


class Cluster:
    """Servers by their number; one that is being restarted has no URL. Leaving the context kills what is left."""

    def __init__(self, folder: Path, database_url: str, history: History, count: int = 3) -> None:
        self._folder, self._database_url, self._history = folder, database_url, history
        self._settings = {
            "QAA_DATABASE_URL": database_url,
            "QAA_TASKS": "tests.faults.tasks",
            "QAA_LEASE_SECONDS": str(LEASE_SECONDS),
            "QAA_CRASH_LIMIT": "1000",
            "QAA_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "PYTHONPATH": str(CHECKOUT),
            tasks.NOTES: str(folder / "notes"),
        }
        self._stack = ExitStack()
        self._servers: list[ServerProcess | None] = [None] * count
        self.urls: list[str | None] = [None] * count
        self.all: list[ServerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _record(self, what: str, pid: int) -> None:
        self._history.faults.append(Fault(what, pid, time.monotonic()))

    async def start(self, number: int) -> None:
        command = (*PROGRAM, "serve", "--bind", "127.0.0.1:0")
        server = self._stack.enter_context(ServerProcess(self._folder, self._settings, command))
        self._servers[number] = server
        self.all.append(server)
        self.urls[number] = await asyncio.to_thread(lambda: server.url)

    async def kill(self, number: int) -> None:
        server = self._running(number)
        self._record("kill", server.pid)
        await self._end(number, server, signal.SIGKILL, -signal.SIGKILL)
        await self.start(number)

    async def terminate(self, number: int) -> None:
        server = self._running(number)
        self._record("terminate", server.pid)
        await self._end(number, server, signal.SIGTERM, 0)
        await self.start(number)

    async def pause(self, number: int, seconds: float) -> None:
        server = self._running(number)
        self._record("pause", server.pid)
        server.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)  # the length of the pause is the test's input, not something that is waited for
        server.send(signal.SIGCONT)
        self._record("resume", server.pid)

    async def stop(self) -> None:
        for number in range(len(self._servers)):
            await self._end(number, self._running(number), signal.SIGTERM, 0)

    def _running(self, number: int) -> ServerProcess:
        server = self._servers[number]
        assert server is not None
        return server

    async def _end(self, number: int, server: ServerProcess, how: signal.Signals, code: int) -> None:
        self.urls[number] = None
        ended = await asyncio.to_thread(server.stop, how)
        self._record("ended", server.pid)
        assert ended == code, server.log

    async def suffer(self, chance: random.Random, seconds: float) -> None:
        """One thing after another happens to a server, each kind at least once. Restarts overlap with what happens next."""
        until = time.monotonic() + seconds
        ahead = chance.sample(("kill", "pause", "terminate"), 3)
        busy: dict[int, asyncio.Task[None]] = {}
        while ahead or time.monotonic() < until:
            await asyncio.sleep(chance.uniform(0, seconds / 30))
            number = chance.randrange(len(self._servers))
            if number in busy:
                if not busy[number].done():
                    continue
                await busy[number]
            happens = ahead.pop() if ahead else chance.choice(("kill", "kill", "pause", "terminate"))
            busy[number] = asyncio.create_task(self._happen(happens, number, chance))
        await asyncio.gather(*busy.values())

    async def _happen(self, what: str, number: int, chance: random.Random) -> None:
        if what == "kill":
            await self.kill(number)
        elif what == "terminate":
            await self.terminate(number)
        else:
            await self.pause(number, chance.choice(PAUSES))

    async def listen(self) -> None:
        """Note the heartbeats of all processes, until it is cancelled."""
        while True:
            for row in await self._read("SELECT pid, last_beat_at FROM workers"):
                beats = self._history.beats.setdefault(row["pid"], [])
                if row["last_beat_at"] not in beats[-1:]:
                    beats.append(row["last_beat_at"])
            await asyncio.sleep(LOOK_SECONDS)

    async def settle(self) -> None:
        """Wait until every job has ended, stop, and read what is left."""
        deadline = time.monotonic() + PATIENCE
        while any(row["status"] not in TERMINAL for row in await self._read("SELECT status FROM jobs")):
            if time.monotonic() > deadline:
                break  # the rules will say so
            await asyncio.sleep(0.1)
        await self.stop()
        for name, query in _QUERIES.items():
            setattr(self._history, name, await self._read(query))
        for line in (self._folder / "notes").read_text().splitlines():
            noted = json.loads(line)
            (self._history.stalls if noted["event"] == "stalled" else self._history.notes).append(noted)
        self._history.logs = {server.pid: server.log for server in self.all}

    async def _read(self, query: str) -> list[Row]:
        return await asyncio.to_thread(rows, self._database_url, query)


class Client:
    """Submits, reads, waits and cancels, each time at some server, until it is told to stop. What it hears, it records."""

    def __init__(self, name: str, urls: Sequence[str | None], history: History, chance: random.Random) -> None:
        self._name, self._urls, self._history, self._chance = name, urls, history, chance
        self._submitted: list[tuple[str, Row]] = []  # each key with its request
        self._known: list[str] = []
        self.stopping = False

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=4)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self.stopping:
                act = self._chance.choice(
                    (self._submit, self._submit, self._repeat, self._read, self._wait, self._cancel)
                )
                await act(session)
                await asyncio.sleep(self._chance.uniform(0, 0.06))

    async def read_all(self, url: str) -> None:
        """See every job once more, as it is in the end."""
        async with aiohttp.ClientSession() as session:
            for job in self._known:
                await self._ask(session, "read", "GET", f"/jobs/{job}", job=job, url=url)

    async def _submit(self, session: aiohttp.ClientSession) -> None:
        key = f"{self._name}-{len(self._submitted)}"
        arguments = {"tag": key, "seconds": round(self._chance.choice((0, 0.1, 0.5, 1.5)), 2)}
        arguments["failing"] = self._chance.choice((0, 0, 0, 0, 1, 9))
        self._submitted.append((key, {"task": "noted", "args": arguments}))
        for _ in range(5):
            if await self._post(session, *self._submitted[-1]):
                break

    async def _repeat(self, session: aiohttp.ClientSession) -> None:
        if self._submitted:
            await self._post(session, *self._chance.choice(self._submitted))

    async def _post(self, session: aiohttp.ClientSession, key: str, request: Row) -> bool:
        heard = await self._ask(
            session, "submit", "POST", "/jobs", key=key, json=request, headers={"Idempotency-Key": key}
        )
        if heard is not None and heard.job is not None and heard.job not in self._known:
            self._known.append(heard.job)
        return heard is not None and heard.job is not None

    async def _read(self, session: aiohttp.ClientSession) -> None:
        if self._known:
            job = self._chance.choice(self._known)
            await self._ask(session, "read", "GET", f"/jobs/{job}", job=job)

    async def _wait(self, session: aiohttp.ClientSession) -> None:
        if self._known:
            job = self._known[-1]
            await self._ask(session, "read", "GET", f"/jobs/{job}", job=job, headers={"Prefer": "wait=2"})

    async def _cancel(self, session: aiohttp.ClientSession) -> None:
        if self._known:
            job = self._known[-1]
            await self._ask(session, "cancel", "DELETE", f"/jobs/{job}", job=job)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        what: str,
        method: str,
        path: str,
        *,
        job: str | None = None,
        key: str | None = None,
        url: str | None = None,
        **options: Any,
    ) -> Answer | None:
        """One request. None where no answer came: it may have had its effect or not."""
        url = url or self._chance.choice(self._urls)
        if url is None:
            return None
        sent = time.monotonic()
        if what == "cancel":  # even if no answer is heard
            self._history.answers.append(Answer(what, sent, sent, 0, job))
        try:
            async with session.request(method, url + path, **options) as response:
                document = json.loads(await response.text() or "null")
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        assert response.status < 500 or response.status == 503, document
        shown = document if response.status < 300 and isinstance(document, dict) else None
        job = job or (shown or {}).get("id")
        answer = Answer(what, sent, time.monotonic(), response.status, job, key, shown if what == "read" else None)
        self._history.answers.append(answer)
        return answer


async def make_history(folder: Path, database_url: str, seed: int, seconds: float) -> History:
    """Let clients use a cluster that suffers for so long, and look at what is left when all is well again."""
    history = History(clock=time.time() - time.monotonic())
    with Cluster(folder, database_url, history) as cluster:
        await asyncio.gather(*(cluster.start(number) for number in range(len(cluster.urls))))
        chance = random.Random(seed)  # noqa: S311  that a failure can be repeated
        clients = [
            Client(f"c{number}", cluster.urls, history, random.Random(f"{seed} {number}"))  # noqa: S311
            for number in range(CLIENTS)
        ]
        listening = asyncio.create_task(cluster.listen())
        running = [asyncio.create_task(client.run()) for client in clients]
        await cluster.suffer(chance, seconds)
        for client in clients:
            client.stopping = True
        await asyncio.gather(*running)
        url = cluster.urls[0]
        assert url is not None
        for client in clients:
            await client.read_all(url)
        listening.cancel()
        await cluster.settle()
        (folder / "history.json").write_text(json.dumps(asdict(history)))
        for server in cluster.all:
            for sign in ("Traceback", "never retrieved", "never awaited", "was destroyed"):
                assert sign not in server.log, server.log
    return history
