"""Many processes that start at once on an empty database."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from quart_async_api.client import Client
from tests.postgresql import PostgreSQL
from tests.process.conftest import ALL_MIGRATIONS
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process


def _start(folder: Path, settings: dict[str, str], starts: int) -> None:
    """Migrate so many times at once, then run a job in each of up to four servers."""
    with ThreadPoolExecutor(starts) as threads:
        migrations = list(threads.map(lambda _: run((*PROGRAM, "migrate"), folder, settings), range(starts)))
    assert [each.returncode for each in migrations] == [0] * starts, migrations
    applied = Counter(re.findall(r"\b\d{4}_\w+", "".join(each.stdout for each in migrations)))
    assert applied == Counter(ALL_MIGRATIONS.split(", "))
    with ExitStack() as stack:
        command = (*PROGRAM, "serve", "--bind", "127.0.0.1:0")
        servers = [stack.enter_context(ServerProcess(folder, settings, command)) for _ in range(min(starts - 1, 4))]
        for server in servers:
            with Client(server.url) as client:
                assert client.wait(client.submit("mock-db")).status == "succeeded"


@pytest.mark.soak
def test_twenty_processes_migrate_an_empty_file_once_and_all_succeed(tmp_path: Path) -> None:
    _start(tmp_path, {"QAA_DATABASE_URL": f"sqlite://{tmp_path}/new.db", "QAA_DELAY": "0"}, 20)


@pytest.mark.slow
@pytest.mark.parametrize("starts", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_processes_that_migrate_an_empty_postgresql_at_once_do_it_once_and_all_succeed(
    tmp_path: Path, postgresql: PostgreSQL, starts: int
) -> None:
    with postgresql.database() as url:
        _start(tmp_path, {"QAA_DATABASE_URL": url, "QAA_JOBS_ENGINE": "distributed", "QAA_DELAY": "0"}, starts)
