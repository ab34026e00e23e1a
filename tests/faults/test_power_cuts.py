"""The power fails at a random moment, and takes what was not flushed: all that was acknowledged is there afterwards.

A real `serve`, and the command line beside it, work on one SQLite file while each of their writes and flushes is recorded
(disk_log.c). From the record images of the disk are made (disk.py): each ends at a random moment, half of them just after an
answer arrived, and what was not flushed by then is lost, kept or torn, sector by sector. The service is started on each image:
every job, user, key and callback that a client had been told of must be there, as it was told, and the database sound.

That this finds a loss is shown on the same record without its flushes: what a disk that lies about them does.
"""

import asyncio
import copy
import random
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from tests.faults import disk
from tests.faults.disk import Disk, Operation
from tests.faults.work import Work
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).parents[2]
CLIENTS = 6
SAMPLE = 5  # things that are asked for one by one
PAGE = 100
LYING_IMAGES = 10


class Recording:
    """A migrated database, and the record of all that was done to its files while `work` was done."""

    def __init__(self, folder: Path, migrated_file: Path, chance: random.Random, requests: int) -> None:
        self.folder, self.chance = folder, chance
        self.log = folder / "log"
        self._database = folder / "disk" / "app.db"
        self._database.parent.mkdir()
        shutil.copy(migrated_file, self._database)
        self.before = Disk(self._database)
        self.work = Work(lambda: self.log.stat().st_size, chance)
        self._settings = {
            "QAA_DATABASE_URL": f"sqlite://{self._database}",
            "QAA_TASKS": "tests.faults.tasks",
            "QAA_RATE_LIMIT": "off",
            "QAA_CALLBACK_ALLOW_PRIVATE": "1",
            "PYTHONPATH": str(CHECKOUT),
            **disk.preloaded(disk.library(folder), self._database, self.log),
        }
        asyncio.run(self._record(requests))

    async def _record(self, requests: int) -> None:
        self.key = await asyncio.to_thread(self.work.make_key, "first", self._settings)
        self.served = self.log.stat().st_size
        with ServerProcess(self.folder, self._settings, (*PROGRAM, "serve", "--bind", "127.0.0.1:0")) as server:
            url = await asyncio.to_thread(lambda: server.url)
            clients = asyncio.create_task(self.work.run(url, self.key, CLIENTS, requests))
            other = await asyncio.to_thread(self.work.make_key, "second", self._settings)
            await asyncio.to_thread(self.work.revoke_key, other, "second", self._settings)
            await clients
            self.locks = [file.name for file in self._database.with_name("app.db.workers").iterdir()]
            assert await asyncio.to_thread(server.stop, signal.SIGTERM) == 0, server.log

    def images(self, count: int, seed: int) -> Iterator[tuple[int, Path]]:
        """Cut the power `count` times: half just after an answer, half anywhere."""
        chance = random.Random(seed)  # noqa: S311
        places = [chance.choice(self.work.places) for _ in range(count // 2)]
        places += [chance.randrange(self.log.stat().st_size) for _ in range(count - count // 2)]
        return self._images(chance, places, disk.operations(self.log))

    def images_of_a_lying_disk(self, count: int, seed: int) -> Iterator[tuple[int, Path]]:
        """The same where nothing was flushed since the server started, soon after: most is in the write-ahead log alone."""
        chance = random.Random(seed)  # noqa: S311
        places = chance.sample(sorted(place for place in self.work.places if place > self.served)[:40], count)
        kept = (one for one in disk.operations(self.log) if one.kind != "s" or one.end <= self.served)
        return self._images(chance, places, kept)

    def _images(
        self, chance: random.Random, places: Sequence[int], recorded: Iterable[Operation]
    ) -> Iterator[tuple[int, Path]]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for place, image in disk.images(copy.deepcopy(self.before), recorded, places, folder, chance):
            if chance.random() < 0.5:  # else these small files were not flushed either
                (image / "app.db.workers").mkdir()
                for name in self.locks:
                    (image / "app.db.workers" / name).touch()
            yield place, image
            shutil.rmtree(image)


async def lost(work: Work, key: str, place: int, image: Path) -> list[str]:
    """Start the service on the image and list what is not as it was acknowledged before `place`."""
    settings = Settings(
        database_url=f"sqlite://{image}/app.db",
        tasks=("tests.faults.tasks",),
        rate_limit="off",
        callback_allow_private=True,
        lease_seconds=0.5,
        drain_seconds=1,
    )
    service = create_app(settings)
    async with service.test_app():
        client = service.test_client()
        assert isinstance(client, QuartClient)
        headers = {"Authorization": f"Bearer {key}"}
        found = await _lost_keys(client, work, place)
        found += await _lost_jobs(client, headers, work, place)
        found += await _lost_users(client, headers, work, place)
    return found + _lost_rows(image / "app.db", work, place)


async def _everything(client: QuartClient, headers: dict[str, str], path: str) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    url: str | None = f"{path}?limit={PAGE}"
    while url is not None:
        response = await client.get(url, headers=headers)
        assert response.status_code == 200, await response.get_data(as_text=True)
        document = await response.get_json()
        items += document if isinstance(document, list) else document["items"]
        url = next(
            (link.split(">")[0].strip("< ") for link in response.headers.getlist("Link") if 'rel="next"' in link), None
        )
    return items


async def _lost_keys(client: QuartClient, work: Work, place: int) -> list[str]:
    found = []
    for key, thing in work.keys.items():
        if may_be := thing.may_be(place):
            good = (await client.get("/jobs?limit=1", headers={"Authorization": f"Bearer {key}"})).status_code == 200
            if good not in may_be:
                found.append(f"a key is {'good' if good else 'not good'}; it was acknowledged as {may_be}")
    return found


async def _lost_jobs(client: QuartClient, headers: dict[str, str], work: Work, place: int) -> list[str]:
    known = {name: may_be for name, thing in work.jobs.items() if (may_be := thing.may_be(place))}
    if not known:
        return []
    found = []
    there = {job["id"]: job for job in await _everything(client, headers, "/jobs")}
    for name, may_be in known.items():
        if name not in there:
            found.append(f"job {name} is gone")
        elif "there" not in may_be and not any(ended.items() <= there[name].items() for ended in may_be):
            found.append(f"job {name} is {there[name]}; it had ended as {may_be}")
    for name in list(known)[-SAMPLE:]:
        tag, document = work.requests[name]
        again = await client.post("/jobs", json=document, headers=headers | {"Idempotency-Key": tag})
        if again.status_code != 202 or (await again.get_json())["id"] != name:
            found.append(f"job {name} is started again by its Idempotency-Key")
        if "delay" not in document and name in there:
            ended = await (await client.get(f"/jobs/{name}", headers=headers | {"Prefer": "wait=30"})).get_json()
            if ended["status"] not in ("succeeded", "cancelled"):
                found.append(f"job {name} does not go on: {ended}")
    return found


async def _lost_users(client: QuartClient, headers: dict[str, str], work: Work, place: int) -> list[str]:
    known = {email: may_be for email, thing in work.users.items() if (may_be := thing.may_be(place))}
    there = {user["email"]: user["name"] for user in await _everything(client, headers, "/users")} if known else {}
    return [
        f"user {email} is {there.get(email)}; it was acknowledged as {may_be}"
        for email, may_be in known.items()
        if there.get(email) not in may_be
    ]


def _lost_rows(database: Path, work: Work, place: int) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        callbacks = {name for (name,) in connection.execute("SELECT message_id FROM callback_deliveries")}
        found = [
            f"callback {name} is gone"
            for name, thing in work.callbacks.items()
            if thing.may_be(place) and name not in callbacks
        ]
        soundness = connection.execute("PRAGMA integrity_check").fetchall()
        gaps = connection.execute(
            "SELECT id FROM jobs WHERE last_event != (SELECT COUNT(*) FROM job_events WHERE job_id = jobs.id) "
            "OR last_event != (SELECT COALESCE(MAX(number), 0) FROM job_events WHERE job_id = jobs.id)"
        ).fetchall()
        untold = connection.execute(
            "SELECT id FROM jobs WHERE callback_url IS NOT NULL AND finished_at IS NOT NULL "
            "AND id NOT IN (SELECT job_id FROM callback_deliveries)"
        ).fetchall()
    return [
        *found,
        *(f"integrity_check: {row}" for row in soundness if row != ("ok",)),
        *(f"job {job} has not all of its events" for (job,) in gaps),
        *(f"job {job} ended without its callback" for (job,) in untold),
    ]


def cut_power(recording: Recording, count: int, seed: int) -> None:
    async def findings(images: Iterator[tuple[int, Path]]) -> list[str]:
        return [
            f"image {number} of seed {seed}: {what}"
            for number, (place, image) in enumerate(images)
            for what in await lost(recording.work, recording.key, place, image)
        ]

    async def found_on_a_lying_disk() -> bool:
        for place, image in recording.images_of_a_lying_disk(LYING_IMAGES, seed):
            with suppress(Exception):  # it may be too broken to start on
                if any("gone" in what for what in await lost(recording.work, recording.key, place, image)):
                    return True
        return False

    assert asyncio.run(findings(recording.images(count, seed))) == []
    assert asyncio.run(found_on_a_lying_disk()), "the check finds nothing lost where nothing was ever flushed"


def record(tmp_path: Path, migrated_file: Path, seed: int, requests: int) -> Recording:
    recording = Recording(tmp_path, migrated_file, random.Random(seed), requests)  # noqa: S311
    kinds = {(operation.kind, operation.path.rpartition("app.db")[2]) for operation in disk.operations(recording.log)}
    assert {("w", "-wal"), ("s", "-wal"), ("w", ""), ("s", "")} <= kinds, "the record has no commit or no checkpoint"
    work = recording.work
    assert all((work.jobs, work.users, work.keys, work.callbacks))
    return recording


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, migrated_file: Path) -> None:
    cut_power(record(tmp_path, migrated_file, 1, 25), 10, 1)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_five_hundred_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path, migrated_file: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    cut_power(record(tmp_path, migrated_file, seed, 100), 500, seed)
