"""The list of jobs while much happens: ten thousand jobs, a hundred events a second."""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from quart_async_api.jobs.ids import new_id
from quart_async_api.moments import timestamp
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.process]

JOBS = 10_000
RUNNING = 45
EVERY = 0.5  # seconds between two events of a job
ENDING = 10  # jobs that begin and end in each second
SECONDS = 30
# What keeps the page from answering a person: tasks of more than 50 ms (https://w3c.github.io/longtasks/).
OBSERVE = """() => {
  window.seen = { tasks: [], events: 0 };
  new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "longtask" });
  const source = new EventSource("/jobs/events");
  for (const kind of ["progress", "failed"]) source.addEventListener(kind, () => (seen.events += 1));
}"""


@pytest.fixture(scope="module")
def service(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("many")
    file = folder / "app.db"
    shutil.copy(migrated_file, file)
    shutil.copy(Path(__file__).with_name("tasks.py"), folder / "browser_tasks.py")
    fill(file)
    settings = {"QAA_DATABASE_URL": f"sqlite://{file}", "QAA_TASKS": "browser_tasks", "QAA_DRAIN_SECONDS": "0.1"}
    with ServerProcess(folder, settings) as server:
        server.wait_for("listens on")
        yield server


def fill(file: Path) -> None:
    """Add jobs that ended during the last hour."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    rows = []
    for number in range(JOBS):
        created = begin + timedelta(seconds=number * 0.3)
        at, status = timestamp(created), ("succeeded", "failed", "cancelled")[number % 3]
        error = '{"type": "/problems/task-failed", "title": "Task failed", "status": 500, "detail": "no reason"}'
        values = (new_id(created), status, at, at, at, at, timestamp(created + timedelta(days=7)))
        rows.append((*values, error if status == "failed" else None))
    with sqlite3.connect(file) as database:
        database.executemany(
            "INSERT INTO jobs (task, args, urgency, max_attempts, attempt, failures, crashes, last_event, id, status, "
            "created_at, run_at, started_at, finished_at, expires_at, error) "
            "VALUES ('fails', '{\"why\":\"no reason\"}', 0, 3, 1, 0, 0, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        database.execute("INSERT INTO job_usage (owner, unfinished, jobs, bytes) VALUES ('', 0, ?, 0)", (JOBS,))
    database.close()


def heap(page: Page) -> float:
    """Megabytes of the page's objects, without garbage."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / 2**20


@pytest.mark.parametrize("size", [25, 100])
def test_the_list_stays_usable(page: Page, size: int) -> None:
    fetched: list[str] = []
    jobs = [
        page.request.post("/jobs", data={"task": "chatters", "args": {"every": EVERY}}).json()["links"]["self"]
        for _ in range(RUNNING)
    ]
    page.goto(f"/console/jobs?limit={size}")
    expect(page.get_by_role("row")).to_have_count(size + 1)
    page.evaluate(OBSERVE)
    before = heap(page)
    page.on("request", lambda request: fetched.append(request.url) if "/console/jobs" in request.url else None)
    page.get_by_label("Task").fill("chat")
    answers: list[float] = []
    for _ in range(SECONDS):
        for _ in range(ENDING):
            page.request.post("/jobs", data={"task": "fails", "args": {"why": "no reason"}})
        page.wait_for_timeout(700)  # the load goes on meanwhile: it is what is measured
        answers.append(page.evaluate("""async () => {
          const began = performance.now();
          await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
          return performance.now() - began;
        }"""))  # fmt: skip
        page.get_by_role("button", name="Pause updates").click(trial=True)
    expect(page.get_by_label("Task")).to_have_value("chat")
    seen: dict[str, Any] = page.evaluate("seen")
    after = heap(page)
    tasks = sorted(seen["tasks"])
    sys.stderr.write(
        f"\n{JOBS} jobs, {size} a page, {seen['events'] / SECONDS:.0f} events/s for {SECONDS} s: "
        f"{len(fetched) / SECONDS:.1f} fetches/s, {len(tasks)} tasks over 50 ms (longest {max(tasks, default=0):.0f} ms), "
        f"frame within {sorted(answers)[len(answers) // 2]:.0f} ms (longest {max(answers):.0f}), "
        f"heap {before:.1f} MB, then {after:.1f} MB\n"
    )
    assert seen["events"] > SECONDS * RUNNING / EVERY / 4
    assert len(fetched) <= 2 * SECONDS * 2
    assert after < before + 10
    for job in jobs:
        page.request.delete(job)
