"""A real Chromium in front of a real server process, with the stand-in for the outside world behind it."""

import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

from quart_async_api.callbacks.secrets import OF_THE_SERVICE, new_secret_of
from quart_async_api.demo import StandIn, start_in_thread
from tests.browser.chromium import ARGUMENTS, find
from tests.server_process import ServerProcess

DELAY = 0.3
_PATIENCE = 60_000  # ms: a page waits 5 seconds before its next try, and expect() by default no longer
expect.set_options(timeout=_PATIENCE)
_VIEWPORT = {"width": 1280, "height": 720}  # Playwright's own
# Chromium reports every answer of 400 and above as an error, and every refused connection; the tests ask for some.
_EXPECTED = (
    "Failed to load resource: the server responded with a status of ",
    "Failed to load resource: net::ERR_CONNECTION_REFUSED",
)


class NewPage(Protocol):
    """A page as if in a new context of its own; `options` are those of Playwright's `Browser.new_context`."""

    def __call__(self, **options: Any) -> Page: ...


@pytest.fixture(scope="session")
def stand_in() -> StandIn:
    return start_in_thread()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the service."""
    return tmp_path_factory.mktemp("browsed")


@pytest.fixture(scope="session")
def service(stand_in: StandIn, migrated_file: Path, folder: Path) -> Iterator[ServerProcess]:
    settings = {
        "QAA_DATABASE_URL": f"sqlite://{shutil.copy(migrated_file, folder / 'app.db')}",
        "QAA_DELAY": str(DELAY),
        "QAA_COMIC_BASE_URL": stand_in.url,
        "QAA_EXTERNAL_API_URL": stand_in.external_api_url,
        "QAA_INBOX": "1",
        "QAA_TASKS": "browser_tasks",
    }
    shutil.copy(Path(__file__).with_name("tasks.py"), folder / "browser_tasks.py")
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


class _Pages:
    """The pages of a module. A test gets one that an earlier test with the same options has left: a new one takes a second.

    What is wrong on them is in `faults`: errors and refusals in their consoles, requests to anywhere else.
    """

    def __init__(self, browser: Browser, service: ServerProcess, stand_in: StandIn) -> None:
        self._browser, self._url = browser, service.url
        self._known = {urlsplit(url).netloc for url in (service.url, stand_in.url)}
        self._free: defaultdict[str, list[Page]] = defaultdict(list)
        self._taken: list[tuple[dict[str, Any], Page]] = []
        self.faults: list[str] = []

    def take(self, **options: Any) -> Page:
        free = self._free[repr(options)]
        page = free.pop() if free else self._open(options)
        self._taken.append((options, page))
        return page

    def _open(self, options: dict[str, Any]) -> Page:
        context = self._browser.new_context(base_url=self._url, **options)
        context.set_default_timeout(_PATIENCE)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        context.on("request", lambda request: self._see(request.url))
        return context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            self.faults.append(f"{message.type}: {message.text}")

    def _see(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.netloc not in self._known:
            self.faults.append(f"a request to {url}")

    def leave(self) -> list[str]:
        """Make the pages as new for the next test. Return the faults of this one."""
        faults = self.faults.copy()
        for options, page in self._taken:
            for other in page.context.pages:
                if other is not page:
                    other.close()
            page.unroute_all(behavior="ignoreErrors")
            page.evaluate("try { localStorage.clear(); sessionStorage.clear() } catch {}")
            page.goto("about:blank")
            page.context.clear_cookies()
            page.mouse.move(0, 0)
            page.set_viewport_size(options.get("viewport", _VIEWPORT))
            page.emulate_media(
                color_scheme=options.get("color_scheme", "light"),
                reduced_motion=options.get("reduced_motion", "no-preference"),
            )
            self._free[repr(options)].append(page)
        self._taken.clear()
        self.faults.clear()
        return faults


@pytest.fixture(scope="module")
def pages(browser: Browser, service: ServerProcess, stand_in: StandIn) -> _Pages:
    return _Pages(browser, service, stand_in)


@pytest.fixture
def new_page(pages: _Pages) -> Iterator[NewPage]:
    """Pages that must stay clean."""
    yield pages.take
    assert not pages.leave()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


@pytest.fixture
def console(page: Page) -> Page:
    page.goto("/console/try")
    return page
