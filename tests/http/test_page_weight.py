"""What a first visit of each page of the console loads: under 100 kB, with a busy database behind it."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api.http.parts import parts_of
from quart_async_api.observability.minutes import Minute, Times
from quart_async_api.service import Service
from quart_async_api.web import files

from .conftest import Document, ended, started

STATIC = Path(files.__file__).parent / "static"
MOST = 100_000  # bytes, before compression and caching
PAGES = (
    "/",
    "/docs",
    "/console/try",
    "/console/jobs",
    "/console/callbacks",
    "/console/overview",
    "/console/overview/jobs",
    "/console/tasks",
    "/console/tasks/shaped",
    "/console/workers",
    "/console/users",
    "/console/users/1",
    "/console/keys",
    "/problems/",
)
LINKED = re.compile(r'(?:src|href)="/static/([^"?]+)')
IMPORTED = re.compile(r'(?:from|import) "\./([^"]+)"')
IMPORTED_FOR_STREAMS = re.compile(r'import\("\./([^"]+)"\)')


def weight(page: str) -> int:
    """The bytes of a page with its styles and scripts, and with the modules that these import."""
    found: set[str] = set()
    waiting = LINKED.findall(page)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            text = (STATIC / name).read_text() if name.endswith(".js") else ""
            waiting += IMPORTED.findall(text)
            waiting += IMPORTED_FOR_STREAMS.findall(text) if 'data-live="/' in page else ()
    assert "style.css" in found
    return len(page.encode()) + sum((STATIC / name).stat().st_size for name in found)


def make_busy(service: Service) -> None:
    """Give every minute of the last hour figures, of as many tasks and failures as a minute keeps."""
    figures = service.figures
    histogram = dict.fromkeys(range(0, 60, 2), 1_234)
    for number in range(figures._number - figures.kept + 1, figures._number + 1):
        figures._minutes[number] = Minute(
            1_000 + number % 61, 900 + number % 59, number % 7, number % 5, 1_234, 56, 12.5 + number % 3,
            [0, 12_345, 1_234 + number % 9, 321, number % 11], 200 + number % 13, 0.12,
            {f"a-task-with-a-long-name-{at:02}": Times(3, histogram, histogram) for at in range(30)},
            {f"shop.errors.PaymentRefused{at:02}": 40 - at for at in range(20)},
            [str(service.clock() - timedelta(minutes=figures._number - number))] if number % 5 == 0 else [],
        )  # fmt: skip


async def make_past(service: Service, job_id: str, number: int, tries: int) -> None:
    """Add failed attempts of a job, and failed callbacks, each with its tries: the receiver answered with a page of its own."""
    now = service.now()
    body = "<html><body>" + "Service Unavailable " * 50

    error = {"type": "/problems/task-failed", "title": "Task failed", "status": 500, "detail": "no reason " * 90}

    def unit() -> Any:
        for at in range(2, number + 2):
            yield (
                "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome, error, traceback) "
                "VALUES (?, ?, ?, ?, 'failed', ?, ?)",
                (job_id, at, now, now, json.dumps(error), "File somewhere, line 1\n" * 170),
            )
        for at in range(number):
            yield (
                "INSERT INTO callback_deliveries (message_id, job_id, owner, url, origin, type, body, status, tries, "
                "created_at) VALUES (?, ?, NULL, ?, 'https://shop.example:443', 'job.succeeded', '{}', 'failed', ?, ?)",
                (f"msg_{at}", job_id, f"https://shop.example/hooks/{at}", tries, now),
            )
            for each in range(1, tries + 1):
                yield (
                    "INSERT INTO callback_attempts (message_id, number, at, status, body) VALUES (?, ?, ?, 503, ?)",
                    (f"msg_{at}", each, now, body[:1024]),
                )

    await service.commits.run(unit)


@pytest.fixture
async def busy(job_app: Quart, jobs: QuartClient) -> Document:
    """A job with long arguments and results, many log lines and callbacks, at the head of a full list."""
    service = parts_of(job_app)
    make_busy(service)
    job = None
    for at in range(30):
        value = [{"order": at, "lines": [1, 2.5, None, True] * 200}, *(["word " * 180] * 60 if at == 29 else ())]
        job = await ended(jobs, await started(jobs, "repeat", args={"value": value}))
    assert job is not None
    await make_past(service, job["id"], 30, 10)
    for at in range(60):
        await service.users.create(f"A user with a name {at}", f"user-{at}@example.org", most=1000)
    return job


async def test_pages_of_a_busy_service_load_less_than_100_kb(jobs: QuartClient, busy: Document) -> None:
    found = {}
    for path in (*PAGES, f"/console/jobs/{busy['id']}"):
        response = await jobs.get(path)
        assert response.status_code == 200, path
        page = await response.get_data(as_text=True)
        assert ("data-live=" in page) == ("idiomorph" in page), path  # what live parts need, and nothing else does
        found[path] = weight(page)
        # These pages list what is on pages of their own; a form is loaded into the list when it is opened.
        if path in ("/docs", "/console/try"):
            for name in re.findall(r'<article class="[^"]+" id="([^"]+)"', page):
                one = await (await jobs.get(f"{path}/{name}")).get_data(as_text=True)
                found[f"{path}/{name}"] = weight(one)
                found[f"{path}#{name}"] = found[path] + len(one.encode())
    assert len(found) > 200
    assert {path: size for path, size in found.items() if size >= MOST} == {}
