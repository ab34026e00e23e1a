"""What clients of one server were told about each thing, and at which place in the record of the disk (disk.py)."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.secrets import secret
from tests.server_process import PROGRAM, run

NEVER = float("inf")
NOBODY = "http://127.0.0.1:9/"  # where no callback arrives: each stays pending
TERMINAL = ("succeeded", "failed", "cancelled")
AT_REST = ("status", "finished_at", "result", "error", "attempt")


@dataclass(slots=True)
class Thing:
    """What was asked for, in order, each with the place at which it was acknowledged."""

    asked: list[tuple[float, Any]] = field(default_factory=list)

    def may_be(self, place: float) -> list[Any]:
        """What it may be after a power cut there: what was acknowledged last, or was asked for later. Empty: anything."""
        heard = [number for number, (at, _) in enumerate(self.asked) if at <= place]
        return [what for _, what in self.asked[heard[-1] :]] if heard else []


class Work:
    """`place` says where the record is now."""

    def __init__(self, place: Callable[[], int], chance: random.Random) -> None:
        self._place = place
        self._chance = chance
        self.jobs: dict[str, Thing] = {}  # by id: "there", then the document that it ended with
        self.callbacks: dict[str, Thing] = {}  # by their webhook-id: "there"
        self.users: dict[str, Thing] = {}  # by email: the name, or None where it was deleted
        self.keys: dict[str, Thing] = {}  # by the key itself: whether it is good
        self.requests: dict[str, tuple[str, dict[str, Any]]] = {}  # by job: the Idempotency-Key and the body
        self.places: list[int] = []  # where anything was acknowledged

    def _say(self, things: dict[str, Thing], name: str, what: Any) -> None:
        self.places.append(self._place())
        things.setdefault(name, Thing()).asked.append((self.places[-1], what))

    # Over HTTP

    async def run(self, url: str, key: str, clients: int, requests: int) -> None:
        headers, timeout = {"Authorization": f"Bearer {key}"}, aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:

            async def client(number: int) -> None:
                for count in range(requests):
                    kind = self._chance.choice((self._user, *[self._job] * 4))
                    await kind(session, f"{number}-{count}")

            await asyncio.gather(*(client(number) for number in range(clients)))

    async def _job(self, session: aiohttp.ClientSession, tag: str) -> None:
        text = tag + "." * self._chance.choice((0, 200, 8000))
        document: dict[str, Any] = {"task": "noted", "args": {"tag": text, "seconds": self._chance.choice((0, 0.02))}}
        if self._chance.random() < 0.5:
            document["callback_url"] = NOBODY
        if self._chance.random() < 0.2:
            document["delay"] = 3600
        async with session.post("/jobs", json=document, headers={"Idempotency-Key": tag}) as response:
            assert response.status == 202, await response.text()
            job = (await response.json())["id"]
        self.requests[job] = tag, document
        self._say(self.jobs, job, "there")
        if self._chance.random() < 0.2:
            async with session.delete(f"/jobs/{job}") as response:
                if response.status == 204:
                    self._say(self.jobs, job, {"status": "cancelled"})
        elif "delay" not in document and self._chance.random() < 0.5:
            async with session.get(f"/jobs/{job}", headers={"Prefer": "wait=30"}) as response:
                shown = await response.json()
            if shown["status"] in TERMINAL:
                self._say(self.jobs, job, {name: shown[name] for name in AT_REST if name in shown})
            async with session.get(f"/jobs/{job}/callbacks") as response:
                for callback in (await response.json())["items"]:
                    self._say(self.callbacks, callback["id"], "there")

    async def _user(self, session: aiohttp.ClientSession, tag: str) -> None:
        email = f"{tag}@example.com"
        async with session.post("/add-user", json={"name": tag, "email": email}) as response:
            assert response.status == 201, await response.text()
            user = (await response.json())["user"]["id"]
        self._say(self.users, email, tag)
        if self._chance.random() < 0.5:
            change = None if self._chance.random() < 0.5 else f"{tag}+"
            thing = self.users[email]
            thing.asked.append((NEVER, change))
            request = (
                session.delete(f"/user/{user}")
                if change is None
                else session.patch(f"/user/{user}", json={"name": change})
            )
            async with request as response:
                assert response.status in (200, 204), await response.text()
            self.places.append(self._place())
            thing.asked[-1] = (self.places[-1], change)

    # On the command line

    def make_key(self, name: str, settings: dict[str, str]) -> str:
        key = secret(json.loads(_command(settings, "keys", "create", "--name", name, "--json"))["key"])
        self._say(self.keys, key, True)
        return key

    def revoke_key(self, key: str, name: str, settings: dict[str, str]) -> None:
        self.keys[key].asked.append((NEVER, False))
        _command(settings, "keys", "revoke", name, "--json")
        self.places.append(self._place())
        self.keys[key].asked[-1] = (self.places[-1], False)


def _command(settings: dict[str, str], *words: str) -> str:
    ran = run((*PROGRAM, *words), Path.cwd(), settings)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
