"""A real Chromium in front of a real server process, with the stand-in for the outside world behind it."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, sync_playwright

from quart_async_api.callbacks.secrets import OF_THE_SERVICE, new_secret_of
from quart_async_api.demo import StandIn, start_in_thread
from tests.browser.chromium import ARGUMENTS, find
from tests.server_process import ServerProcess

DELAY = 0.3
_PATIENCE = 15_000  # ms
# Chromium reports every answer of 400 and above as an error; the tests ask for some.
_EXPECTED = "Failed to load resource: the server responded with a status of "


class NewPage(Protocol):
    """Opens a page in a context of its own; `options` are those of Playwright's `Browser.new_context`."""

    def __call__(self, **options: Any) -> Page: ...


@pytest.fixture(scope="session")
def stand_in() -> StandIn:
    return start_in_thread()


@pytest.fixture(scope="session")
def service(
    stand_in: StandIn, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("browsed")
    settings = {
        "QAA_DATABASE_URL": f"sqlite://{shutil.copy(migrated_file, folder / 'app.db')}",
        "QAA_DELAY": str(DELAY),
        "QAA_COMIC_BASE_URL": stand_in.url,
        "QAA_EXTERNAL_API_URL": stand_in.external_api_url,
        "QAA_INBOX": "1",
    }
    with sqlite3.connect(folder / "app.db") as database:  # as `migrate` does
        statement, values = new_secret_of(OF_THE_SERVICE, "2026-01-01T00:00:00.000000Z")
        database.execute(statement, values)
    database.close()
    with ServerProcess(folder, settings) as server:
        server.wait_for("listens on")
        yield server
        assert server.stop() == 0, server.log
    assert "Traceback" not in server.log, server.log


# Playwright's loop runs as long as its context: one a session would be in the way of the asyncio tests of other modules.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        except Error as error:
            reason = f"no Chromium could be started: {error.message.splitlines()[0]}"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(reason)
            pytest.skip(reason)
        yield launched
        launched.close()


@pytest.fixture
def new_page(browser: Browser, service: ServerProcess, stand_in: StandIn) -> Iterator[NewPage]:
    """Pages that must stay clean: no error or refusal in their consoles, no request to anywhere else."""
    faults: list[str] = []
    known = {urlsplit(service.url).netloc, urlsplit(stand_in.url).netloc}

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            faults.append(f"{message.type}: {message.text}")

    def see(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.netloc not in known:
            faults.append(f"a request to {url}")

    with ExitStack() as stack:

        def new(**options: Any) -> Page:
            context: BrowserContext = stack.enter_context(browser.new_context(base_url=service.url, **options))
            context.set_default_timeout(_PATIENCE)
            context.on("console", hear)
            context.on("weberror", lambda error: faults.append(str(error.error)))
            context.on("request", lambda request: see(request.url))
            return context.new_page()

        yield new
    assert not faults


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


@pytest.fixture
def console(page: Page) -> Page:
    page.goto("/")
    return page
