"""One process of our service, of any number on BENCH_POSTGRESQL: as BENCH_ROLE says, a caller or a worker, through Python."""

import os
import sys

import uvloop

from quart_async_api.errors import DatabaseBehind

from .jobs_ours import run

if __name__ == "__main__":
    try:
        uvloop.run(run(os.environ["BENCH_POSTGRESQL"]))
    except DatabaseBehind as error:
        sys.exit(str(error))
