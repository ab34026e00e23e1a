"""What a durable job costs: jobs a second, the time from submit to start, commits a job, and queries beside many old jobs.

A no-op task, through the Python API and through HTTP (a real server process), beside a bare asyncio.create_task as the
limit. Writes jobs.json and jobs.svg to build/bench. `--full` adds 1,000,000 finished jobs, which takes a minute.
"""

import asyncio
import contextlib
import json
import logging
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter

import aiohttp
import uvloop

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.db.migration import upgrade
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.sql import COLUMNS
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.jobs.store import JobStore
from quart_async_api.moments import timestamp
from quart_async_api.service import Service

CALLERS = 64
BURST = 1_000
JOBS = 2_000
ALONE = 200
QUERIES = 100
ROWS = (1_000, 100_000)
ROWS_FULL = (*ROWS, 1_000_000)
RESULTS = Path(__file__).parents[1] / "build" / "bench"


@task("noop")
async def noop(ctx: TaskContext) -> float:
    """Do nothing, and say when; the monotonic clock of Linux is the same in all processes."""
    return monotonic()


@dataclass(frozen=True, slots=True)
class Figures:
    """Jobs a second from submit to done, and milliseconds from submit to start."""

    jobs_a_second: float
    median_ms: float
    p99_ms: float
    commits_a_job: float | None = None


def figures(count: int, elapsed: float, waits: list[float], commits: int | None = None) -> Figures:
    return Figures(
        round(count / elapsed, 1),
        round(median(waits) * 1000, 3),
        round(quantiles(waits, n=100)[98] * 1000, 3),
        None if commits is None else round(commits / count, 3),
    )


async def run(job: Callable[[], Awaitable[float]], callers: int, count: int) -> tuple[float, list[float]]:
    """`callers` at once make `count` jobs, each when its last is done. Seconds, and those from submit to start of each."""
    waits: list[float] = []

    async def caller() -> None:
        for _ in range(count // callers):
            submitted = monotonic()
            waits.append(await job() - submitted)

    started = perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return perf_counter() - started, waits


async def bare(callers: int, count: int) -> Figures:
    """The limit: an asyncio task that nothing remembers."""

    async def body() -> float:
        return monotonic()

    return figures(count, *await run(lambda: asyncio.create_task(body()), callers, count))


async def python(service: Service, callers: int, count: int) -> Figures:
    async def job() -> float:
        submitted = await service.submissions.submit(noop, noop.arguments())
        ended = await service.submissions.wait(submitted.id, 60)
        return float(json.loads(ended.result or "null"))

    before = service.commits.commits
    elapsed, waits = await run(job, callers, count)
    return figures(count, elapsed, waits, service.commits.commits - before)


async def http(url: str, callers: int, count: int) -> Figures:
    connector = aiohttp.TCPConnector(limit=callers)
    async with aiohttp.ClientSession(url, connector=connector) as session:

        async def job() -> float:
            async with session.post("/jobs", json={"task": "noop"}, headers={"Prefer": "wait=30"}) as response:
                return float((await response.json())["result"])

        await run(job, callers, callers)
        return figures(count, *await run(job, callers, count))


@contextlib.contextmanager
def server(folder: Path, database_url: str) -> Iterator[str]:
    """The URL of a server process that has the no-op task."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QAA_")}
    settings = {
        "QAA_DATABASE_URL": database_url,
        "QAA_TASKS": Path(__file__).stem,
        "QAA_LOG_LEVEL": "warning",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    command = [sys.executable, "-m", "quart_async_api", "serve", "--bind", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(command, cwd=folder, env=kept | settings) as process:
        try:
            yield f"http://{command[-1]}"
        finally:
            process.terminate()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def until_ready(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/health/ready") as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.05)


async def throughput(template: Path, folder: Path) -> dict[str, Figures]:
    measured = {}
    app = create_app(Settings(database_url=copy_of(template, folder / "python.db")), tasks=[sys.modules[__name__]])
    async with app.test_app():
        await python(app.service, CALLERS, CALLERS)
        measured["bare create_task"] = await bare(CALLERS, 64_000)
        measured[f"Python, {BURST:,} callers"] = await python(app.service, BURST, JOBS)
        measured[f"Python, {CALLERS} callers"] = await python(app.service, CALLERS, JOBS)
        measured["Python, one caller"] = await python(app.service, 1, ALONE)
    with server(folder, copy_of(template, folder / "http.db")) as url:
        await until_ready(url)
        measured[f"HTTP, {CALLERS} clients"] = await http(url, CALLERS, JOBS)
        measured["HTTP, one client"] = await http(url, 1, ALONE)
    return measured


def copy_of(template: Path, file: Path) -> str:
    return f"sqlite://{shutil.copy(template, file)}"


def fill(file: Path, rows: int) -> None:
    """Insert finished jobs, each with its attempt and its event; every tenth failed."""
    now = timestamp(datetime.now(UTC))

    def job(number: int) -> JobRecord:
        failed = number % 10 == 0
        return JobRecord(
            id=new_id(),
            task="noop",
            status=Status.FAILED if failed else Status.SUCCEEDED,
            args="{}",
            urgency=0,
            max_attempts=1,
            timeout=None,
            created_at=now,
            run_at=now,
            started_at=now,
            finished_at=now,
            expires_at="2999-01-01T00:00:00.000000Z",
            attempt=1,
            last_event=1,
            result=None if failed else "1.0",
            error='{"title": "It failed"}' if failed else None,
        )

    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for start in range(0, rows, 10_000):
            jobs = [job(number) for number in range(start, min(rows, start + 10_000))]
            marks = ", ".join("?" for _ in COLUMNS)
            connection.executemany(
                f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({marks})",  # noqa: S608
                [tuple(asdict(record).values()) for record in jobs],
            )
            connection.executemany(
                "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome) VALUES (?, 1, ?, ?, ?)",
                [(record.id, now, now, record.status) for record in jobs],
            )
            connection.executemany(
                "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, 1, ?, '{}', ?)",
                [(record.id, record.status, now) for record in jobs],
            )
    with file.open("rb") as written:
        os.fsync(written.fileno())  # else the first commits that are measured would wait for it


async def milliseconds(call: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await call()
    return (perf_counter() - started) * 1000


async def costs(file: Path) -> dict[str, float]:
    """Medians in milliseconds."""
    database = Database(f"sqlite://{file}")
    await database.start()
    try:
        with database.bind():
            store = JobStore(database, GroupCommit(database))
            await store.workers.register("benchmark", timestamp(datetime.now(UTC)))
            [oldest] = sqlite3.connect(file).execute("SELECT MIN(id) FROM jobs").fetchone()
            measured: dict[str, list[float]] = {"claim": []}
            for _ in range(QUERIES):
                now = timestamp(datetime.now(UTC))
                queued = JobRecord(
                    id=new_id(),
                    task="noop",
                    status=Status.QUEUED,
                    args="{}",
                    urgency=0,
                    max_attempts=1,
                    timeout=None,
                    created_at=now,
                    run_at=now,
                )
                await store.submission.insert(queued, 10_000)
                measured["claim"].append(
                    await milliseconds(lambda now=now: store.claims.claim(("noop",), 1, "benchmark", now, new_id))  # type: ignore[misc]
                )
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "claim, none due": lambda: store.claims.claim(("noop",), 1, "benchmark", now, new_id),
                "monitor": lambda: asyncio.gather(store.reading.get(oldest, None), store.reading.attempts(oldest)),
                "list": lambda: store.reading.page(26, None),
                "list, failed": lambda: store.reading.page(26, None, status=Status.FAILED),
                "list, one task": lambda: store.reading.page(26, None, task="noop"),
                "list, of before all": lambda: store.reading.page(
                    26, None, created_before="2000-01-01T00:00:00.000000Z"
                ),
            }
            for name, call in calls.items():
                measured[name] = [await milliseconds(call) for _ in range(QUERIES if "before" not in name else 5)]
            return {name: round(median(times), 3) for name, times in measured.items()}
    finally:
        await database.stop()


async def beside_old_jobs(template: Path, folder: Path, sizes: tuple[int, ...]) -> dict[int, dict[str, float]]:
    measured = {}
    for rows in sizes:
        file = folder / f"{rows}.db"
        copy_of(template, file)
        await asyncio.to_thread(fill, file, rows)
        measured[rows] = await costs(file)
        file.unlink()
    return measured


def plot(speeds: dict[str, Figures], queries: dict[int, dict[str, float]]) -> str:
    """Bars of the jobs a second, and of what each query costs beside how many finished jobs."""
    parts = []
    y = 56
    fastest = max(speed.jobs_a_second for name, speed in speeds.items() if not name.startswith("bare"))
    for name, speed in speeds.items():
        if name.startswith("bare"):
            continue
        length = max(2.0, 380 * speed.jobs_a_second / fastest)
        parts.append(
            f'<text x="190" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="200" y="{y}" width="{length:.0f}" height="20" rx="3" fill="#2a9d8f"/>'
            f'<text x="{206 + length:.0f}" y="{y + 15}">{speed.jobs_a_second:,.0f}/s, start {speed.median_ms:.1f} ms</text>'
        )
        y += 28
    y += 16
    parts.append(f'<text x="16" y="{y + 12}" font-weight="bold">Milliseconds a query, beside finished jobs</text>')
    y += 32
    shades = dict(zip(queries, ("#b8bec7", "#6c8ead", "#264653"), strict=False))
    for place, (rows, shade) in enumerate(shades.items()):
        parts.append(
            f'<rect x="{200 + place * 130}" y="{y}" width="12" height="12" fill="{shade}"/>'
            f'<text x="{216 + place * 130}" y="{y + 11}">{rows:,}</text>'
        )
    y += 22
    names = [name for name in next(iter(queries.values())) if "before" not in name]
    slowest = max(costs[name] for costs in queries.values() for name in names)
    for name in names:
        parts.append(f'<text x="190" y="{y + 6 + 6 * len(queries)}" text-anchor="end">{name}</text>')
        for rows, costs in queries.items():
            length = max(2.0, 380 * costs[name] / slowest)
            parts.append(
                f'<rect x="200" y="{y}" width="{length:.0f}" height="10" rx="2" fill="{shades[rows]}"/>'
                f'<text x="{206 + length:.0f}" y="{y + 10}" font-size="11">{costs[name]:.2f}</text>'
            )
            y += 13
        y += 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 {y + 8}" font-family="sans-serif" font-size="14">'
        f'<rect width="780" height="{y + 8}" fill="#fff"/>'
        f'<text x="16" y="24" font-weight="bold">Durable no-op jobs a second, submit to done</text>'
        f'<text x="16" y="43" font-size="12" fill="#555">a bare create_task: '
        f"{speeds['bare create_task'].jobs_a_second:,.0f}/s</text>"
        f"{''.join(parts)}</svg>\n"
    )


def report(speeds: dict[str, Figures], queries: dict[int, dict[str, float]]) -> dict[str, object]:
    limit = speeds["bare create_task"].jobs_a_second
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, SQLite {sqlite3.sqlite_version}")
    print(
        f"\n{'no-op jobs, submit to done':28}{'jobs/s':>10}{'of bare':>10}{'start, median':>16}{'p99':>12}{'commits':>10}"
    )
    for name, speed in speeds.items():
        commits = "" if speed.commits_a_job is None else f"{speed.commits_a_job:.2f}"
        print(
            f"{name:28}{speed.jobs_a_second:10,.0f}{speed.jobs_a_second / limit:10.2%}{speed.median_ms:13.2f} ms"
            f"{speed.p99_ms:9.2f} ms{commits:>10}"
        )
    smallest, *others = queries
    print(
        f"\n{'beside finished jobs':28}"
        + "".join(f"{rows:>14,}" for rows in queries)
        + "".join(f"{'×':>9}" for _ in others)
    )
    for name, first in queries[smallest].items():
        print(
            f"{name:28}"
            + "".join(f"{costs[name]:11.3f} ms" for costs in queries.values())
            + "".join(f"{queries[rows][name] / first:9.2f}" for rows in others)
        )
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "jobs": {
            name: asdict(speed) | {"of_bare": round(speed.jobs_a_second / limit, 5)} for name, speed in speeds.items()
        },
        "milliseconds_beside_finished_jobs": queries,
        "ratios_to_fewest": {
            rows: {name: round(cost / queries[smallest][name], 2) for name, cost in queries[rows].items()}
            for rows in others
        },
    }


async def measure(sizes: tuple[int, ...]) -> tuple[dict[str, Figures], dict[int, dict[str, float]]]:
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        folder = Path(name)
        template = folder / "template.db"
        await upgrade(f"sqlite://{template}")
        return await throughput(template, folder), await beside_old_jobs(template, folder, sizes)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)  # else the app would log each job
    speeds, queries = uvloop.run(measure(ROWS_FULL if "--full" in sys.argv else ROWS))
    document = report(speeds, queries)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "jobs.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / "jobs.svg").write_text(plot(speeds, queries))


if __name__ == "__main__":
    main()
