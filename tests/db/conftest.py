"""Every test of the database runs on a SQLite file and on a real PostgreSQL."""

import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.packages import OF_THE_SERVICE, Packages
from tests.postgresql import MIGRATED, ON_BOTH, PostgreSQL

NewUrl = Callable[[], str]


@pytest.fixture(params=ON_BOTH)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewUrl]:
    """Makes the URL of an empty database: of a file that is not there yet, or of a new PostgreSQL database."""
    numbers = itertools.count(1)
    if request.param == "sqlite":
        yield lambda: f"sqlite://{tmp_path}/{next(numbers)}.db"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    with ExitStack() as stack:
        yield lambda: stack.enter_context(server.database())


@pytest.fixture
def url(new_url: NewUrl) -> str:
    return new_url()


@pytest.fixture
def another_backend(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database like that of `backend`, beside it."""
    if backend.startswith("sqlite"):
        yield f"sqlite://{shutil.copy(request.getfixturevalue('migrated_file'), tmp_path / 'another.db')}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    with server.database(MIGRATED) as url:
        yield url


@asynccontextmanager
async def started(url: str, packages: Packages = (OF_THE_SERVICE,)) -> AsyncIterator[Database]:
    database = Database(url, packages)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def database(backend: str) -> AsyncIterator[Database]:
    """A migrated, started and bound database."""
    async with started(backend) as database:
        with database.bind():
            yield database
