"""The first page starts one slow call in four deliveries, and draws each in time."""

import re
import shlex

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import DELAY, NewPage
from tests.browser.test_pages import violations
from tests.server_process import ServerProcess

pytestmark = pytest.mark.browser

ALL = re.compile(r"^Wait: \d+\.\d\d s · Come back: \d+\.\d\d s · Stream: \d+\.\d\d s · Callback: \d+\.\d\d s$")
SECONDS = re.compile(r"(\d+\.\d{3}) s")


def lane(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name, exact=True)


def start(page: Page, call: str = "GET /test") -> Locator:
    """Start the call in all deliveries; returns the section."""
    page.get_by_label("The call").select_option(call)
    page.get_by_role("button", name="Start all four").click()
    return page.locator("#deliveries")


def marks(page: Page, name: str) -> list[tuple[float, str]]:
    """What the table says of a delivery: seconds and text."""
    page.locator("#deliveries .legend details").evaluate("details => (details.open = true)")
    rows = page.locator("#deliveries tbody tr").all_inner_texts()
    told = [row.split("\t") for row in rows]
    return [(float(at), text) for lane, at, text in told if lane == name]


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_one_call_ends_in_four_deliveries_each_in_its_way(new_page: NewPage, motion: str) -> None:
    page = new_page(reduced_motion=motion)
    page.goto("/")
    section = start(page)
    expect(section.locator("> [role=status]")).to_have_text(ALL)
    for name in ("Wait", "Come back", "Stream"):
        expect(lane(page, name).locator(".verdict")).to_have_text(re.compile(r"^200 \d+\.\d{3} s$"))
        assert float(SECONDS.findall(lane(page, name).locator(".verdict").inner_text())[0]) >= DELAY
    callback = lane(page, "Callback")
    expect(callback.locator(".verdict")).to_have_text(re.compile(r"^verified \d+\.\d{3} s$"))
    callback.get_by_text("What arrived").click()
    expect(callback.get_by_role("definition").nth(1)).to_have_text("1")  # the attempt
    expect(callback).to_contain_text("verifies with the service's secret")
    expect(callback).to_contain_text("no signature matches")

    waited = marks(page, "Wait")
    assert [text for _, text in waited] == ["GET /test", "200, the result"]
    back = [text for _, text in marks(page, "Come back")]
    assert re.fullmatch(r"202, Location: /jobs/[0-9a-f-]{36}", back[1])
    assert back.count("GET") >= 1
    assert back[-1] == "200 succeeded"
    streamed = [text for _, text in marks(page, "Stream")]
    assert streamed[1] == "event: snapshot"
    assert streamed[-1] == "event: succeeded"
    called = marks(page, "Callback")
    assert any(text.startswith("webhook job.succeeded arrived") for _, text in called)
    for name in ("Come back", "Stream", "Callback"):
        [ended] = [at for at, text in marks(page, name) if text == "job succeeded (the service's time)"]
        assert ended >= DELAY - 0.01
    for name in ("Wait", "Come back", "Stream", "Callback"):
        drawing = lane(page, name).locator("svg")
        assert drawing.locator(".arrow").count() >= 2
        assert drawing.locator(".work").count() == 1
    assert violations(page) == []


def test_any_slow_call_can_be_chosen_and_the_commands_say_how(page: Page, service: ServerProcess) -> None:
    page.goto("/")
    page.get_by_label("The call").select_option("POST /start-task")
    words = shlex.split(lane(page, "Callback").locator("[data-curl]").inner_text())
    assert words[:3] == ["curl", "-X", "POST"]
    assert words[3].startswith(f"{service.url}/start-task?callback_url={service.url}/console/inbox/")
    assert "-N" in shlex.split(lane(page, "Stream").locator("[data-curl]").inner_text())
    page.get_by_label("Hold each poll").check()
    section = start(page, "POST /start-task")
    expect(section.locator("> [role=status]")).to_have_text(ALL)
    streamed = [text for _, text in marks(page, "Stream")]
    assert "event: progress 100 %" in streamed
    assert [text for _, text in marks(page, "Come back")].count("GET") == 1  # it was held


def test_four_deliveries_can_be_cancelled(page: Page) -> None:
    page.goto("/")
    section = start(page, "GET /gather")
    expect(lane(page, "Callback").locator(".verdict")).to_have_text("…")
    section.get_by_role("button", name="Cancel").click()
    expect(section.locator("> [role=status]")).to_contain_text("Cancelled")
    expect(lane(page, "Wait").locator(".verdict")).to_have_text("cancelled")
    section.get_by_role("button", name="Start all four").click()
    expect(lane(page, "Wait").locator(".verdict")).to_have_text("…")
    section.get_by_role("button", name="Cancel").click()
    expect(section.locator("> [role=status]")).to_contain_text("Cancelled")


def test_refusals_of_the_deliveries_say_what_to_do(page: Page) -> None:
    """It waited for ever for the callback after a restart of the service."""
    page.route("**/console/pulse?*", lambda route: route.continue_(url=route.request.url[:-1]))  # an unknown place
    page.goto("/")
    call = re.compile("/test([?]|$)")
    page.route(call, lambda route: route.abort("connectionrefused"))
    said = start(page).locator("> [role=status]")
    expect(said).to_contain_text("Callback: failed")
    expect(lane(page, "Callback")).to_contain_text("The service does not answer.")
    page.unroute(call)
    page.route(call, lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    start(page)
    for name in ("Wait", "Come back", "Stream", "Callback"):  # they told of characters that are no JSON
        expect(lane(page, name)).to_contain_text("The service answered 502. Try again in 5 seconds.")
    page.unroute(call)
    start(page)
    expect(said).to_have_text(re.compile("Wait: 0.*Callback: failed"))
    expect(lane(page, "Wait")).not_to_contain_text("does not answer")
    expect(lane(page, "Callback")).to_contain_text("The service was restarted")


def test_the_commands_of_the_deliveries_need_no_scripts(new_page: NewPage) -> None:
    written = []
    for scripts in (True, False):
        page = new_page(java_script_enabled=scripts)
        page.goto("/")
        texts = page.locator("#deliveries [data-curl]").all_text_contents()
        written.append([re.sub("inbox/[^']+", "inbox/…", text) for text in texts])
    assert written[0] == written[1]
    assert len(written[0]) == 4
