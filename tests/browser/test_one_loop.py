"""Many slow calls end together on one event loop, whose lag is in plain sight; comics come at once and one after another."""

import re

import pytest
from playwright.sync_api import Page, expect

from quart_async_api.demo import StandIn
from tests.browser.conftest import DELAY, NewPage
from tests.browser.test_pages import violations

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_many_calls_are_heard_to_end_from_one_stream(new_page: NewPage, motion: str) -> None:
    page = new_page(reduced_motion=motion)
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if request.url.endswith("/jobs/events") else None)
    page.goto("/")
    section = page.locator("#one-loop")
    section.get_by_label("Number of calls").fill("12")
    expect(section.get_by_role("heading")).to_have_text("12 slow calls, one wait.")
    expect(section.get_by_label("Calls", exact=True)).to_have_value("12")
    expect(section.locator("[data-curl]")).to_contain_text("seq 12")
    expect(section.locator(".ghost-step")).to_have_count(12)
    section.get_by_role("button", name="Start them").click()
    status = section.get_by_role("status")
    expect(status).to_have_text(re.compile(r"^12 calls in \d+\.\d\d s. One after another: 3.6 s.$"))
    together = float(re.findall(r"in (\d+\.\d\d) s", status.inner_text())[0])
    assert together >= DELAY
    widths = section.locator(".run.done[height]").evaluate_all("bars => bars.map((bar) => bar.getBBox().width)")
    assert len(widths) == 13
    assert min(widths) > 5
    assert len(section.locator(".bars text").all_inner_texts()) == 12
    assert len(streams) == 1


def test_the_calls_can_be_cancelled(page: Page) -> None:
    page.goto("/")
    section = page.locator("#one-loop")
    page.route("**/test", lambda route: None)  # none is answered before the click
    section.get_by_role("button", name="Start them").click()
    section.get_by_role("button", name="Cancel").click()
    expect(section.get_by_role("status")).to_have_text("Cancelled: 0 of 50 calls had ended.")
    expect(section.get_by_role("button", name="Cancel")).to_be_hidden()


def test_the_lag_of_the_loop_is_drawn_and_can_be_paused(page: Page) -> None:
    page.goto("/")
    lag = page.locator("#lag")
    expect(lag.locator("[data-lag]")).to_contain_text(
        re.compile(r"^\d+\.\d ms now, \d+\.\d ms at most; \d+ jobs? runs?$")
    )
    before = lag.locator("polyline").get_attribute("points")
    expect(lag.locator("polyline")).not_to_have_attribute("points", before or "")
    lag.get_by_role("button", name="Pause").click()
    expect(lag.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")


def test_comics_come_both_ways_with_pictures_and_times(page: Page) -> None:
    page.goto("/")
    section = page.locator("#comics")
    section.get_by_role("button", name="Fetch six comics both ways").click()
    expect(section.get_by_role("status")).to_have_text(re.compile(r"^At once: .+ s. One after another: .+ s.$"))
    pictures = section.locator("img")
    expect(pictures).to_have_count(12)
    assert (
        len(set(pictures.evaluate_all("images => images.map((image) => image.src)"))) == 12
    )  # a comic came on both sides
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    assert violations(page) == []


HOSTILE = ("<script>alert(1)</script>", "\u202eright to left\u2066", "x" * 10_000, "🧨" * 50, "&lt;b&gt;")


def test_hostile_titles_of_comics_are_text_and_break_nothing(page: Page, stand_in: StandIn) -> None:
    picture = f"{stand_in.url}/comics/614.svg"
    comics = [{"num": 614, "title": each, "alt": each, "img": picture, "url": "", "elapsed": 0.1} for each in HOSTILE]
    comics.append({**comics[0], "title": "no picture", "img": "javascript:alert(1)"})
    page.route("**/comic?*", lambda route: route.fulfill(json={"comics": comics, "errors": [], "elapsed": 0.1}))
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    section = page.locator("#comics")
    section.get_by_role("button", name="Fetch six comics both ways").click()
    expect(section.get_by_role("status")).to_contain_text("At once: 0.10 s")
    titles = section.locator("[data-mode=concurrent] li span").all_text_contents()
    assert titles == [*HOSTILE, "no picture"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
