"""The overview: the figures of the last hour as charts, as tables, and as JSON."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.browser.test_pages import violations

pytestmark = pytest.mark.browser

ADDRESS = "/console/overview"


def run_job(page: Page, task: str = "test", **args: Any) -> None:
    answer = page.request.post("/jobs", data={"task": task, "args": args}, headers={"Prefer": "respond-async, wait=30"})
    assert answer.json()["status"] in ("succeeded", "failed")


def fact(page: Page, name: str) -> int:
    """A number of the top row."""
    text = page.locator(".facts-row div", has_text=name).locator("strong").inner_text()
    return int(re.sub(r"\D", "", text))


def test_a_job_shows_in_figures_charts_and_tables(page: Page) -> None:
    run_job(page)
    page.goto(ADDRESS)
    ended = fact(page, "Ended jobs")
    assert ended >= 1
    jobs = page.get_by_role("figure", name="Jobs a minute")
    expect(jobs.get_by_role("img")).to_be_visible()
    assert jobs.locator(".bars").count() >= 1
    expect(page.get_by_role("region", name="Tasks").get_by_role("rowheader", name="test", exact=True)).to_be_visible()

    readouts = page.locator(".readout:visible")
    area = jobs.get_by_role("img").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] - 3, area["y"] + 20)  # this minute
    expect(readouts.first).to_have_text(
        re.compile(r"^\d\d:\d\d: submitted \d+, succeeded \d+, cancelled \d+, failed \d+$")
    )
    assert len({text[:5] for text in readouts.all_inner_texts()}) == 1  # of the same minute in every chart
    page.mouse.move(0, 0)
    expect(readouts).to_have_count(0)

    run_job(page)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as on a return to the page: fetch now
    expect(page.locator(".facts-row div", has_text="Ended jobs").locator("strong")).to_have_text(f"{ended + 1:,}")
    jobs.get_by_role("link", name="Table").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Jobs a minute")
    table = page.get_by_role("table")
    headings = table.get_by_role("columnheader").all_inner_texts()
    rows = [row.get_by_role("cell").all_inner_texts() for row in table.locator("tbody tr").all()]
    shown = [dict(zip(headings[1:], row, strict=True)) for row in rows]

    figures = page.request.get("/figures").json()["minutes"]
    for name in ("submitted", "succeeded", "failed", "cancelled"):
        assert sum(int(row[name]) for row in shown) == sum(minute[name] for minute in figures)


def test_times_are_those_of_the_reader_with_scripts_and_utc_without(new_page: NewPage) -> None:
    here, plain = new_page(timezone_id="Asia/Kathmandu"), new_page(java_script_enabled=False)
    for page in (here, plain):
        page.goto(ADDRESS)
    started = plain.locator(".mark-key [data-minute]")
    expect(started).to_have_text(re.compile(r"^\d\d:\d\d UTC$"))
    moment = started.get_attribute("data-minute") or ""
    hour, minute = int(moment[11:13]), int(moment[14:16])
    there = (hour * 60 + minute + 345) % 1440  # five hours and three quarters ahead
    expect(here.locator(".mark-key [data-minute]")).to_have_text(f"{there // 60:02}:{there % 60:02}")


def test_every_table_can_be_opened_on_a_phone_without_scripts(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False, viewport={"width": 360, "height": 740})
    run_job(page)
    page.goto(ADDRESS)
    addresses = [link.get_attribute("href") or "" for link in page.get_by_role("link", name=re.compile("^Table")).all()]
    assert f"{ADDRESS}/jobs" in addresses
    for address in addresses:
        page.goto(address)
        expect(page.get_by_role("table")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_axe_finds_nothing_with_figures_and_tables(page: Page) -> None:
    run_job(page)
    for address in (ADDRESS, f"{ADDRESS}/jobs"):
        page.goto(address)
        assert violations(page) == []
