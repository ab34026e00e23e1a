"""The pytest plugin. It imports nothing of the service until a test asks for a fixture."""

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_asyncio import fixture as async_fixture
else:
    try:
        from pytest_asyncio import fixture as async_fixture
    except ImportError:  # pytest then says that nothing runs the async fixture
        async_fixture = pytest.fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ..app import App
    from ..settings import Settings
    from .databases import Templates
    from .service import ServiceUnderTest
    from .worker import JobMode


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("qaa_app", "Function that makes the app under test, as module:make_app")
    parser.addini("qaa_database_url", "postgresql:// URL beside whose database tests make theirs (default: SQLite)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "qaa_jobs(how): how qaa_service runs jobs: by_hand (default), inline or live")


@pytest.fixture(scope="session")
def qaa_templates(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Templates]":
    """Migrated databases to copy from. The workers of pytest-xdist share those of SQLite."""
    from .databases import Templates

    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "qaa-templates"
    folder.mkdir(exist_ok=True)
    templates = Templates(folder)
    yield templates
    templates.close()


@pytest.fixture
def qaa_settings(pytestconfig: pytest.Config) -> "Settings":
    """The settings of the app under test. No environment variable changes them."""
    from .run import settings_of_tests

    given = {"app": pytestconfig.getini("qaa_app"), "database_url": pytestconfig.getini("qaa_database_url")}
    return settings_of_tests(**{name: value for name, value in given.items() if value})


@pytest.fixture
def qaa_make_app() -> "Callable[[Settings], App]":
    """The function that makes the app under test: by default the one that the option qaa_app names."""
    from ..loading import load_app

    return load_app


@async_fixture
async def qaa_service(
    request: pytest.FixtureRequest,
    qaa_make_app: "Callable[[Settings], App]",
    qaa_settings: "Settings",
    qaa_templates: "Templates",
) -> "AsyncIterator[ServiceUnderTest]":
    """The app under test, running on a database of its own. The mark `qaa_jobs` says how it runs jobs."""
    from .run import run_on_copy

    mark = request.node.get_closest_marker("qaa_jobs")
    jobs = _mode(*mark.args, **mark.kwargs) if mark is not None else "by_hand"
    async with run_on_copy(qaa_templates, qaa_make_app, qaa_settings, jobs) as service:
        yield service


def _mode(how: "JobMode") -> "JobMode":
    """Read the mark `qaa_jobs(how)`."""
    return how
