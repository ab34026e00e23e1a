"""What every test gets: an environment without the developer's settings, a watch for blocking calls, and an app of its own."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.db.migration import upgrade
from quart_async_api.demo import StandIn
from quart_async_api.observability.logging import JsonFormatter
from quart_async_api.testing.databases import Templates
from tests.secrets import in_the_open

pytest_plugins = ["tests.postgresql", "tests.order"]


def pytest_configure() -> None:
    """Let the servers of the tests hear SIGHUP, also under nohup, which they would inherit."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in the modules and tests themselves: they stay, and it would take a tenth of the CPU time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(
            50_000, 20, 50
        )  # as the program does: by default, two thirds of making an app are looks for garbage
        gc.enable()


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests are that ask for no folder of their own: to make one takes a sixth of a short test."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("QAA_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    if "tmp_path" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))
        yield
    else:
        folder = request.getfixturevalue("_empty_folder")
        monkeypatch.chdir(folder)
        yield
        assert os.listdir(folder) == [], "a test that writes into its folder asks for tmp_path"


@pytest.fixture(scope="session")
def _watch() -> BlockBuster:
    watch = BlockBuster("quart_async_api")
    for function in watch.functions.values():
        function.can_block_in("quart_async_api/app.py", "create_app")  # runs before there is anything to hold up
    return watch


@pytest.fixture(autouse=True)
def _blocking_calls_fail(_watch: BlockBuster) -> Iterator[BlockBuster]:
    allowed = {name: len(function.can_block_functions) for name, function in _watch.functions.items()}
    _watch.activate()
    yield _watch
    _watch.deactivate()
    for name, count in allowed.items():  # what this test has let block too
        del _watch.functions[name].can_block_functions[count:]


class _Kept(logging.Handler):
    """All that is logged, as it would be written, with whatever it carries."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _no_secret_is_logged() -> Iterator[None]:
    kept = _Kept()
    logging.getLogger().addHandler(kept)
    yield
    logging.getLogger().removeHandler(kept)
    assert not in_the_open("\n".join(kept.lines))


@pytest.fixture(scope="session")
def migrated_file(qaa_templates: Templates) -> Path:
    """A SQLite database at its newest migration, to copy from. The workers of a run share it: it takes a second to make."""
    return asyncio.run(qaa_templates.file("the service", upgrade))


@pytest.fixture
def database_file(migrated_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated_file, tmp_path / "app.db"))


@pytest.fixture
async def upstream() -> AsyncIterator[StandIn]:
    """The outside world, on loopback."""
    async with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def settings(database_file: Path, upstream: StandIn) -> Settings:
    return Settings(
        database_url=f"sqlite://{database_file}",
        delay=0,
        drain_seconds=1,
        comic_base_url=upstream.url,
        external_api_url=upstream.external_api_url,
        upstream_timeout=30,
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    """The service, started."""
    service = create_app(settings)
    async with service.test_app():
        yield service


@pytest.fixture
def client(app: Quart) -> QuartClient:
    made = app.test_client()
    assert isinstance(made, QuartClient)
    return made


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that any connection to SQLite runs."""
    run: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(run.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return run
