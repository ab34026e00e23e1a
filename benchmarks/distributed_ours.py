"""One process of our service, of any number on BENCH_POSTGRESQL: callers in a closed loop, through Python."""

import json
import logging
import os
import sys

import uvloop

from quart_async_api import Settings, create_app
from quart_async_api.errors import DatabaseBehind

from . import tasks
from .peers.closed_loop import turns


async def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(
        database_url=os.environ["BENCH_POSTGRESQL"], job_queue_limit=1_000_000, kept_jobs=0, kept_bytes=0
    )
    app = create_app(settings, tasks=[tasks])
    async with app.test_app():
        submissions, noop = app.service.submissions, tasks.noop

        async def job() -> float:
            submitted = await submissions.submit(noop, noop.arguments())
            ended = await submissions.wait(submitted.id, 60)
            return float(json.loads(ended.result or "null"))

        await turns(job, lambda: app.service.commits.commits)


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except DatabaseBehind as error:
        sys.exit(str(error))
