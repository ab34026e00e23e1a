"""The pages of jobs, used as a person does."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.conftest import NewPage
from tests.browser.test_pages import violations

pytestmark = pytest.mark.browser

Document = dict[str, Any]
HOSTILE = (
    "<script>document.title = 'run'</script>",
    "\"'><img src=x onerror=\"document.title = 'run'\">",
    "\u202egnitirw \u2067rtl \u05d0\u05d1",
    "x" * 10_000,
    "\U0001f600\u200d\U0001f680 \x01 \\u0000",
    "</code></template></textarea>{{ 7 * 7 }}",
)


def submit(page: Page, task: str, **members: Any) -> Document:
    response = page.request.post("/jobs", data={"task": task, **members})
    assert response.status == 202, response.text()
    document: Document = response.json()
    return document


# What the browser gets for the page on its first visit.
WEIGHT = """() => performance.getEntries().filter((entry) => /navigation|resource/.test(entry.entryType))
  .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""


def row(page: Page, job: Document) -> Locator:
    return page.locator(f"#job-{job['id']}")


def test_a_job_is_followed_from_the_list_to_its_end(page: Page, folder: Path) -> None:
    """New jobs appear, progress is drawn, a box stays marked, and the job's page has each log line at once."""
    page.goto("/console/jobs?task=followed")
    job = submit(page, "followed", args={"name": "one", "lines": ["first line", "second line"]})
    listed = row(page, job)
    expect(listed.get_by_role("progressbar")).to_have_js_property("value", 0)
    listed.get_by_role("checkbox").check()
    listed.get_by_role("button", name="Cancel").focus()
    (folder / "one-1").touch()
    expect(listed).to_contain_text("50 %")
    expect(listed.get_by_role("checkbox")).to_be_checked()
    expect(listed.get_by_role("button", name="Cancel")).to_be_focused()

    listed.get_by_role("link", name="followed").click()
    events = page.get_by_role("list").filter(has_text="first line")
    expect(events).to_contain_text("1 of 2: first line")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 50)
    page.get_by_text("characters").click()
    (folder / "one-2").touch()
    expect(events).to_contain_text("second line")
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    expect(events.get_by_role("listitem")).to_have_text([re.compile(r"^[\d:.]+ " + line) for line in (
        "progress 0 of 2: begins", "log first line", "progress 1 of 2: first line",
        "log second line", "progress 2 of 2: second line", "succeeded",
    )])  # fmt: skip
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.locator("#said")).to_have_text("The job is succeeded.")
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page) == []


def test_paused_updates_wait(page: Page, folder: Path) -> None:
    page.goto("/console/jobs?task=followed")
    job = submit(page, "followed", args={"name": "two", "lines": ["a", "b"]})
    expect(row(page, job)).to_contain_text("0 %")
    page.get_by_role("button", name="Pause updates").click()
    submit(page, "followed", args={"name": "two", "lines": []})
    (folder / "two-1").touch()
    (folder / "two-2").touch()
    assert page.request.get(job["links"]["self"], headers={"Prefer": "wait=30"}).json()["status"] == "succeeded"
    expect(row(page, job)).to_contain_text("0 %")
    page.get_by_role("button", name="Pause updates").click()
    expect(row(page, job)).to_contain_text("succeeded")


@pytest.mark.parametrize("scripts", [True, False])
def test_jobs_are_changed_by_keyboard(new_page: NewPage, scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    jobs = [submit(page, "fails", args={"why": f"keyboard {scripts}"}, delay=3600) for _ in range(3)]
    page.goto("/console/jobs?task=fails&status=queued")
    page.get_by_role("checkbox", name=jobs[0]["id"][-12:]).focus()
    page.keyboard.press("Enter")  # sends nothing
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name=jobs[1]["id"][-12:]).press("Space")
    page.get_by_role("button", name="Cancel selected").press("Enter")
    expect(page.get_by_role("status").filter(has_text="2 jobs cancelled")).to_be_focused()
    expect(row(page, jobs[0])).to_have_count(0)
    page.get_by_role("button", name=f"Cancel fails {jobs[2]['id'][-12:]}").press("Enter")
    expect(page.get_by_text("The job is cancelled.")).to_be_visible()
    page.get_by_role("link", name="cancelled").click()
    expect(row(page, jobs[2])).to_contain_text("cancelled")
    assert "task=fails&status=cancelled" in page.url
    row(page, jobs[2]).get_by_role("link").press("Enter")
    page.get_by_role("link", name="Run again").press("Enter")
    page.get_by_label("why").fill("run again by hand")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This is the new job")).to_be_visible()
    if not scripts:
        assert page.request.get(page.url.partition("?")[0].replace("/console", ""), headers={"Prefer": "wait=30"}).ok
        page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")
    expect(page.get_by_role("link", name=jobs[2]["id"])).to_be_visible()


def test_the_filters_are_in_the_address_and_complete(page: Page) -> None:
    job = submit(page, "fails", args={"why": "filter"})
    page.goto("/console/jobs")
    offered = page.locator("#tasks option").evaluate_all("all => all.map(each => each.value)")
    assert {"fails", "followed", "gather"} <= set(offered)
    page.get_by_label("Task", exact=True).fill("fails")
    page.get_by_label("Created after").fill("2026-01-01T00:00:00")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="failed").click()
    expect(row(page, job)).to_contain_text("Upstream failed: filter")
    assert 30_000 < page.evaluate(WEIGHT) < 100_000
    assert "status=failed" in page.url
    assert "created_after=2026-01-01T00" in page.url
    address = page.get_by_role("link", name="JSON").get_attribute("href")
    assert address is not None
    assert job["id"] in [each["id"] for each in page.request.get(address).json()["items"]]
    page.goto("/console/jobs")
    page.get_by_label("Job id").fill(job["id"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("fails")


def test_all_that_match_are_cancelled_by_a_job_that_counts(page: Page) -> None:
    jobs = [submit(page, "followed", args={"name": "all", "lines": []}, delay=3600) for _ in range(2)]
    page.goto("/console/jobs?task=followed&status=queued")
    page.get_by_role("link", name="Cancel all that match").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 jobs?")
    assert violations(page) == []
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    expect(page.get_by_role("region", name="Result as JSON")).to_contain_text('"done": 2')
    page.goto("/console/jobs?task=followed&status=cancelled")
    expect(row(page, jobs[0])).to_contain_text("cancelled")


def test_hostile_texts_stay_texts_and_leave_the_page_whole(new_page: NewPage, folder: Path) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    job = submit(page, "followed", args={"name": "hostile", "lines": HOSTILE})
    page.goto(f"/console/jobs/{job['id']}")
    for number in range(1, len(HOSTILE) + 1):
        (folder / f"hostile-{number}").touch()
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    for address in (page.url, f"{page.url}?events=all", f"{page.url}/again", "/console/jobs?task=followed"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
        assert "run" not in page.title().split()
        assert violations(page) == [], address
    page.goto(f"/console/jobs/{job['id']}?events=all")
    assert set(HOSTILE) <= set(page.locator("#log bdi").all_text_contents())
    # Long names without a blank: a target of 1,900 characters made the list of callbacks 18,000 pixels wide.
    user = page.request.post("/add-user", data={"name": "W" * 50, "email": f"{'x' * 60}@example.com"}).json()["user"]
    called = submit(page, "fails", args={"why": "x"}, callback_url=f"https://hooks.example/{'y' * 1900}", delay=3600)
    assert page.request.delete(called["links"]["self"]).status == 204
    for address in (f"/console/users/{user['id']}", "/console/callbacks"):
        page.goto(address)
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
    page.goto(f"/console/jobs/{job['id']}")
    page.get_by_role("link", name="Run again").click()
    page.get_by_label("name").fill("\u202e")
    page.get_by_label("lines").fill("[")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_label("lines")).to_be_focused()  # the focus was lost
    expect(page.get_by_label("lines")).to_have_accessible_description(re.compile("^This is not JSON"))


def test_a_form_is_sent_once_until_its_answer_comes(page: Page) -> None:
    page.goto("/console/tasks/fails")
    sends = page.locator("form.again").evaluate(
        "form => [1, 2].map(() => form.dispatchEvent(new SubmitEvent('submit', { bubbles: true, cancelable: true })))"
    )
    assert sends == [True, False]  # the second of a double click
    page.reload()
    page.get_by_label("why").fill("once")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/console/jobs/*")
    page.go_back()
    page.get_by_label("why").fill("once more")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/console/jobs/*")


HIDE = (
    "(hidden) => { Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });"
    "document.dispatchEvent(new Event('visibilitychange')); }"
)


def is_stream(request: Request) -> bool:
    return request.url.endswith("/jobs/events")


def test_a_hidden_page_holds_no_connection(page: Page) -> None:
    with page.expect_request(is_stream):
        page.goto("/console/jobs")
    with page.expect_event("requestfailed", is_stream):  # closed: the browser has six for all its tabs
        page.evaluate(HIDE, True)
    with page.expect_request(is_stream):
        page.evaluate(HIDE, False)


def refuse(route: Route, status: int, title: str, retry_after: str = "") -> None:
    """Answer as the service or a proxy before it does."""
    problem = {"title": title, "status": status, "detail": "the reason"}
    headers = {"Retry-After": retry_after} if retry_after else {}
    route.fulfill(status=status, json=problem, headers=headers, content_type="application/problem+json")


def test_a_log_has_the_time_of_the_service_though_the_clock_of_the_reader_is_wrong(
    new_page: NewPage, folder: Path
) -> None:
    page = new_page(timezone_id="Asia/Tokyo")
    page.clock.set_fixed_time("2031-01-01T00:00:00Z")
    page.goto("/console/jobs")
    job = submit(page, "followed", args={"name": "clock", "lines": ["one", "two"]})
    page.goto(f"/console/jobs/{job['id']}")
    expect(page.locator("#log li")).not_to_have_count(0)
    with page.expect_response(f"**/console/jobs/{job['id']}"):  # it tells the time
        pass
    page.evaluate(
        "window.years = new Set(); new MutationObserver(() => document.querySelectorAll('#log time').forEach("
        "(time) => years.add(time.dateTime.slice(0, 4))))"
        ".observe(document.getElementById('job'), { subtree: true, childList: true })"
    )
    (folder / "clock-1").touch()
    expect(page.locator("#log")).to_contain_text("log one")
    (folder / "clock-2").touch()
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    assert page.evaluate("[...years]") == [job["created_at"][:4]]


def test_a_refused_stream_is_opened_again_when_it_may_be(page: Page, folder: Path) -> None:
    """An answer of 429 or 503 ended it for good."""
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) < 3:
            refuse(route, (429, 503)[len(asked) - 1], "Too many streams", "1")
        else:
            route.continue_()

    page.route("**/jobs/events", answer)
    page.goto("/console/jobs?task=followed")
    job = submit(page, "followed", args={"name": "refused", "lines": ["one", "two"]})
    with page.expect_response(lambda response: is_stream(response.request) and response.status == 200):
        pass
    assert asked[1] - asked[0] > 1
    assert asked[2] - asked[1] > 2  # by backoff, more than Retry-After
    (folder / "refused-1").touch()
    expect(row(page, job)).to_contain_text("50 %")
    (folder / "refused-2").touch()
    expect(row(page, job)).to_contain_text("succeeded")


def test_a_page_says_why_it_is_not_updated_and_goes_on(page: Page) -> None:
    """Whatever was wrong, it said that the service does not answer."""
    page.goto("/console/jobs")
    said = page.locator("#connection")
    expect(said).to_be_hidden()
    refusals = iter([(429, "Quota exceeded", "1"), (503, "Queue full", "1")])

    def answer(route: Route) -> None:
        status, title, after = next(refusals, (0, "", ""))
        refuse(route, status, title, after) if status else route.continue_()

    page.route("**/console/jobs", answer)
    expect(said).to_have_text("Quota exceeded: the reason. The page tries again in 1 second.")
    expect(said).to_have_text("Queue full: the reason. The page tries again in 1 second.")
    expect(said).to_be_hidden()
    page.unroute("**/console/jobs")
    page.route("**/console/jobs", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    expect(said).to_have_text("The service answered 502. The page tries again in 5 seconds.")
    page.unroute("**/console/jobs")
    expect(said).to_be_hidden()
    page.route("**/console/jobs", lambda route: refuse(route, 410, "Job expired"))
    with page.expect_event("requestfailed", is_stream):
        expect(said).to_have_text("Job expired: the reason. The page is no longer updated.")
