"""The console of a service that wants a key, in a browser that has one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from quart_async_api.demo import StandIn
from tests.browser.conftest import DELAY, NewPage
from tests.browser.test_pages import opened
from tests.secrets import secret
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("closed")


@pytest.fixture(scope="module")
def service(stand_in: StandIn, migrated_file: Path, folder: Path) -> Iterator[ServerProcess]:
    settings = {
        "QAA_DATABASE_URL": f"sqlite://{shutil.copy(migrated_file, folder / 'app.db')}",
        "QAA_DELAY": str(DELAY),
        "QAA_COMIC_BASE_URL": stand_in.url,
        "QAA_EXTERNAL_API_URL": stand_in.external_api_url,
        "QAA_RATE_LIMIT": "off",
        "QAA_CALLBACK_SCHEDULE": "0",
    }
    made = run((*PROGRAM, "keys", "create", "--name", "Ada Lovelace"), folder, settings)
    (folder / "key").write_text(secret(made.stdout.strip()))
    with ServerProcess(folder, settings) as server:
        server.wait_for("listens on")
        yield server
        assert server.stop() == 0, server.log


@pytest.fixture
def key(service: ServerProcess, folder: Path) -> str:
    return (folder / "key").read_text()


def sign_in(page: Page, key: str, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_signs_in_and_out(new_page: NewPage, key: str, scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    sign_in(page, "qaa_wrong", "/docs")
    expect(page.get_by_role("alert")).to_contain_text("The key is mistyped")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    assert urlsplit(page.url).path == "/docs"
    expect(page.get_by_role("banner")).to_contain_text("Ada Lovelace")
    page.evaluate("sessionStorage.setItem('calls', '[]')")  # as /console/try does
    page.get_by_role("button", name="Sign out").click()
    assert urlsplit(page.url).path == "/sign-in"
    assert page.evaluate("sessionStorage.length") == 0
    page.goto("/")
    assert urlsplit(page.url).path == "/sign-in"


def test_the_console_works_with_the_session(new_page: NewPage, key: str) -> None:
    page = new_page()
    sign_in(page, key)
    section = page.locator("#one-loop")
    section.get_by_label("Number of calls").fill("6")
    section.get_by_role("button", name="Start them").click()
    expect(section.get_by_role("status")).to_contain_text("6 calls in")
    page.get_by_role("button", name="Start all four").click()
    expect(page.locator("#deliveries > [role=status]")).to_contain_text("Callback: not started")
    callback = page.get_by_role("article", name="Callback")
    expect(callback).to_contain_text("QAA_INBOX=1")
    page.get_by_label("Send the callback to").fill("https://hooks.example/done")  # a name that has no address
    page.get_by_role("button", name="Start all four").click()
    expect(page.locator("#deliveries > [role=status]")).to_contain_text("Callback: failed after")
    expect(callback.locator(".detail")).to_contain_text("hooks.example has no address")
    expect(callback.locator("svg")).to_contain_text("webhook failed")
    page.goto("/console/try")
    card = opened(page, "POST /start-task")
    card.get_by_role("button", name="Call", exact=True).click()
    expect(card.locator(".outcome")).to_contain_text("the job succeeded")
    expect(card.locator("[data-curl]")).to_contain_text('-H "Authorization: Bearer $API_KEY"')
    assert key not in page.content()


def test_streams_sockets_and_tickets_work_in_the_browser(new_page: NewPage, key: str) -> None:
    page = new_page()
    sign_in(page, key)
    told = page.evaluate(
        """async () => {
          const first = (source) => new Promise((resolve) => {
            source.addEventListener("snapshot", () => { source.close(); resolve("snapshot"); });
            source.addEventListener("error", () => { source.close(); resolve("refused"); });
          });
          const opened = (url) => new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onmessage = ({ data }) => { socket.close(); resolve(JSON.parse(data).event); };
            socket.onerror = () => resolve("refused");
          });
          const job = await (await fetch("/jobs", { method: "POST", headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ task: "test" }) })).json();
          const base = location.origin.replace("http", "ws");
          const { ticket } = await (await fetch("/tickets", { method: "POST" })).json();
          const events = job.links.events;
          return [
            await first(new EventSource(events)),
            await opened(base + job.links.websocket),
            await first(new EventSource(`${events}?ticket=${ticket}`)),
            await first(new EventSource(`${events}?ticket=${ticket}`)),
          ];
        }"""
    )
    assert told == ["snapshot", "snapshot", "snapshot", "refused"]


@pytest.mark.parametrize("options", [{"viewport": {"width": 360, "height": 640}}, {"color_scheme": "dark"}])
def test_the_page_to_sign_in_fits_a_phone_and_can_be_used_with_keys_alone(
    new_page: NewPage, key: str, options: dict[str, object]
) -> None:
    page = new_page(**options)
    page.goto("/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("banner")).to_contain_text("Ada Lovelace")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
