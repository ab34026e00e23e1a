"""Our jobs in a closed loop, through Python: BENCH_DATABASE is a migrated database.

BENCH_ENGINE: `embedded` (default) or `distributed`.
"""

import json
import logging
import os

import uvloop

from quart_async_api import Settings, create_app
from quart_async_api.service import Role
from quart_async_api.settings import JobsEngine

from . import tasks
from .peers.closed_loop import ROLE, turns


async def run(database_url: str) -> None:
    logging.basicConfig(level=logging.WARNING)  # else the app would log each job
    engine = JobsEngine(os.environ.get("BENCH_ENGINE", "embedded"))
    settings = Settings(
        database_url=database_url, jobs_engine=engine, job_queue_limit=1_000_000, kept_jobs=0, kept_bytes=0
    )
    app = create_app(settings, tasks=[tasks])
    app.take(Role(runs_jobs=ROLE != "caller"))
    async with app.test_app():
        submissions, noop = app.service.submissions, tasks.noop

        async def job() -> float:
            submitted = await submissions.submit(noop, noop.arguments())
            ended = await submissions.wait(submitted.id, 60)
            return float(json.loads(ended.result or "null"))

        await turns(job, commits=lambda: app.service.commits.commits)


if __name__ == "__main__":
    uvloop.run(run(f"sqlite://{os.environ['BENCH_DATABASE']}"))
