"""Real server processes on real SQLite files, one at a time or one a module."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.server_process import PROGRAM, ServerProcess

CHECKOUT = Path(__file__).parents[2]
HYPERCORN_TOML = CHECKOUT / "hypercorn.toml"
ALL_MIGRATIONS = ", ".join(sorted(file.stem for file in (CHECKOUT / "migrations").glob("[0-9]*.py")))


class Start(Protocol):
    def __call__(self, **settings: str) -> ServerProcess: ...


def serve(folder: Path, template: Path, bind: str = "127.0.0.1:0", **settings: str) -> ServerProcess:
    """The service on the database of `folder`; its slow calls answer at once, unless QAA_DELAY is given."""
    database = folder / "app.db"
    if not database.exists():
        shutil.copy(template, database)
    environment = {"QAA_DATABASE_URL": f"sqlite://{database}", "QAA_DELAY": "0", **settings}
    return ServerProcess(folder, environment, (*PROGRAM, "serve", "--bind", bind))


def assert_clean(server: ServerProcess) -> None:
    """Whatever was done to the server, it has no fault of its own to report."""
    for sign in ("Traceback", "never retrieved", "never awaited", "was destroyed", "ResourceWarning"):
        assert sign not in server.log, server.log


@pytest.fixture
def start(tmp_path: Path, migrated_file: Path) -> Iterator[Start]:
    """Starts a server with these settings, watches that it reports no fault, and leaves no process."""
    with ExitStack() as stack:
        servers: list[ServerProcess] = []

        def start(**settings: str) -> ServerProcess:
            server = stack.enter_context(serve(tmp_path, migrated_file, **settings))
            servers.append(server)
            return server

        yield start
    for server in servers:
        assert_clean(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[ServerProcess]:
    """One server for the tests of a module, which must leave it as it was: it ends well and without a complaint."""
    with serve(tmp_path_factory.mktemp("server"), migrated_file) as server:
        yield server
        assert server.stop() == 0, server.log
    assert_clean(server)
