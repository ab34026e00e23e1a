"""Many slow calls end together on one event loop."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DELAY, NewPage

pytestmark = pytest.mark.browser


def test_ten_calls_at_once_take_about_as_long_as_one(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Call /test ten times").click()
    status = page.locator("#at-once").get_by_role("status")
    expect(status).to_have_text(re.compile(r"^10 calls in .+ One after another: .+"))
    together, apart = map(float, re.findall(r"(\d+\.\d+) s", status.inner_text()))
    assert DELAY <= together < apart / 2
    assert apart >= 10 * DELAY
    bars = page.locator(".lanes .bar")
    widths = [bars.nth(number).bounding_box() for number in range(10)]
    assert all(box and box["width"] > 5 for box in widths)


def test_the_ten_calls_can_be_cancelled(page: Page) -> None:
    page.goto("/")
    page.route("**/test", lambda route: None)  # none is answered before the click
    page.get_by_role("button", name="Call /test ten times").click()
    race = page.locator("#at-once")
    race.get_by_role("button", name="Cancel").click()
    expect(race.get_by_role("status")).to_have_text("0 of 10 calls were answered.")


def test_with_reduced_motion_the_bars_are_drawn_when_done(new_page: NewPage) -> None:
    page = new_page(reduced_motion="reduce")
    page.goto("/")
    page.get_by_role("button", name="Call /test ten times").click()
    expect(page.locator("#at-once").get_by_role("status")).to_contain_text("10 calls in")
    box = page.locator(".lanes .bar").first.bounding_box()
    assert box
    assert box["width"] > 5
