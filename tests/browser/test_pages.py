"""What holds for every page: readable without scripts, on a phone, in the dark, and by whoever cannot see it."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from quart_async_api.problem_types import TYPES
from tests.browser.conftest import NewPage

pytestmark = pytest.mark.browser

PAGES = [
    "/",
    "/console/try",
    "/console/try/post_jobs",
    "/console/jobs",
    "/console/overview",
    "/console/tasks",
    "/console/tasks/comic",
    "/console/callbacks",
    "/console/workers",
    "/console/users",
    "/console/keys",
    "/docs",
    "/docs/post_jobs",
    "/problems/",
    "/problems/invalid-input",
    "/comic?num=614&num=404&num=1024",
]

AXE = Path(__file__).parents[1] / "node_modules/axe-core/axe.min.js"
# The rules of WCAG 2.2 AA, and axe's own best practices.
RUN_AXE = """async (options) => (await axe.run(document, { resultTypes: ["violations"], ...options })).violations
  .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\\n")}`)"""


# What colours decide, and nothing else: the slowest.
COLOURS = ("color-contrast", "link-in-text-block")
ALL: dict[str, Any] = {}
ONLY_COLOURS = {"runOnly": COLOURS}
NO_COLOURS = {"rules": {rule: {"enabled": False} for rule in COLOURS}}


def violations(page: Page, rules: dict[str, Any] = ALL) -> list[str]:
    """What axe-core finds wrong on the page as it is now."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make test does that, where there is npm")
    if not page.evaluate("window.axe !== undefined"):
        page.evaluate(AXE.read_text())  # not a <script>: the page's policy refuses it
    found: list[str] = page.evaluate(RUN_AXE, rules)
    return found


def opened(page: Page, call: str) -> Locator:
    """The card of a call, opened, with its form."""
    found = page.get_by_role("article", name=call, exact=True)
    if found.locator("> details").get_attribute("open") is None:
        found.locator("> details > summary").click()
    expect(found.locator("form")).to_be_attached()
    return found


def form(page: Page, call: str) -> Locator:
    """The form of a call without scripts: it is on a page of its own."""
    page.goto("/console/try")
    listed = page.get_by_role("article", name=call, exact=True)
    listed.locator("summary").click()
    listed.get_by_role("link", name="The form").click()
    return page.get_by_role("article", name=call, exact=True)


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_on_a_page_and_it_fits_every_width(page: Page, path: str) -> None:
    page.goto(path)
    for scheme, width, rules in (
        ("light", 1280, ALL),
        ("dark", 1280, ONLY_COLOURS),
        ("light", 360, ALL),
        ("dark", 2560, NO_COLOURS),
    ):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        assert violations(page, rules) == [], (scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")


def test_answers_stand_out_too(page: Page) -> None:
    page.goto("/console/try")
    for name in ("get_health_ready", "get_user_user_id", "get_comic", "get_external_api"):
        page.locator(f"#{name} summary").first.click()
        if name == "get_user_user_id":
            page.locator(f"#{name}").get_by_label("user id").fill("x")
        page.locator(f"#{name}").get_by_role("button", name="Call").click()
        expect(page.locator(f"#{name}").get_by_role("status")).to_contain_text(" in ")
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, ONLY_COLOURS) == []


def test_a_phone_shows_answers_without_scrolling_sideways(new_page: NewPage) -> None:
    page = new_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.goto("/console/try")
    for name in ("get_comic", "get_health_ready", "post_start_task"):
        page.locator(f"#{name} summary").first.tap()
        page.locator(f"#{name}").get_by_role("button", name="Call").tap()
        expect(page.locator(f"#{name}").get_by_role("status")).to_contain_text(" in ")
        page.locator(f"#{name}").get_by_text("Headers").tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_vendored_modules_are_those_of_npm() -> None:
    packages = AXE.parents[1]
    if not packages.exists():
        pytest.skip("make test installs the packages, where there is npm")
    vendored = files("quart_async_api") / "web/static/vendor/idiomorph.min.js"
    assert vendored.read_bytes() == (packages / "idiomorph/dist/idiomorph.min.js").read_bytes()


def test_without_scripts_every_call_is_there_with_its_command(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/console/try")
    assert page.get_by_role("article").count() >= 45
    retry = form(page, "POST /jobs/{job_id}/retry")
    expect(retry.locator("[data-curl]")).to_contain_text("/retry -H")
    expect(page.get_by_text("Without scripts, use the command.")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)


def test_without_scripts_a_get_is_a_plain_form_comics_come_as_a_page_and_a_task_can_be_started(
    new_page: NewPage,
) -> None:
    page = new_page(java_script_enabled=False)
    comics = form(page, "GET /comic")
    comics.get_by_label("number").fill("3")
    comics.get_by_role("button", name="Call").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("3 comics")
    for path in ("/get", "/users", "/health/ready"):
        called = form(page, f"GET {path}")
        with page.expect_navigation() as answered:
            called.get_by_role("button", name="Call").click()
        assert answered.value.status == 200
        assert "json" in answered.value.headers["content-type"]
    starting = form(page, "POST /start-task")
    with page.expect_navigation() as answered:
        starting.get_by_role("button", name="Call").click()
    assert answered.value.status == 202


def test_the_docs_have_every_operation_of_the_openapi_document(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    api: dict[str, Any] = page.request.get("/openapi.json").json()
    page.goto("/docs")
    described = [
        (method.upper(), path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    described += [("GET", path, operation) for path, operation in api["x-websockets"].items()]
    assert page.get_by_role("article").count() == len(described) > 15
    headings = page.get_by_role("article").get_by_role("heading").all_inner_texts()
    for method, path, operation in described:
        assert any(heading.startswith(f"{method} {path}") for heading in headings)
        text = page.request.get(f"/docs/{operation['operationId']}").text()
        for parameter in operation.get("parameters", ()):
            assert f'<th scope="row"><code>{parameter["name"]}</code>' in text
        own = {status for status, answer in operation["responses"].items() if "$ref" not in answer}
        assert own == set(re.findall(r'<dt><span class="status[^>]+>(\d+)', text))
        anchors = set(re.findall(r'<a href="#(shape-\w+)"', text))
        assert anchors <= set(re.findall(r'<h3 id="(shape-\w+)"', text))


def test_the_filter_of_the_docs_leaves_the_routes_that_have_every_word(page: Page) -> None:
    page.goto("/docs")
    routes, groups = page.get_by_role("article"), page.get_by_role("navigation", name="Groups")
    everything = routes.count()
    page.get_by_role("searchbox", name="Filter").fill("CANCEL jobs")
    expect(page.get_by_role("article", name="DELETE /jobs/{job_id}")).to_be_visible()
    expect(page.get_by_role("article", name="GET /users")).to_be_hidden()
    expect(groups.get_by_role("link", name="Users")).to_be_hidden()
    expect(page.get_by_role("main").get_by_role("status")).to_have_text(f"{routes.count()} of {everything}")
    page.get_by_role("searchbox").fill("no such words")
    expect(routes).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    expect(routes).to_have_count(everything)


def test_the_docs_without_scripts_lead_from_route_to_route_and_have_no_filter(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/docs")
    expect(page.get_by_role("searchbox")).to_have_count(0)
    page.get_by_role("article", name="POST /jobs", exact=True).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("POST /jobs")
    index = page.get_by_role("navigation", name="Index")
    index.get_by_role("link", name="GET /jobs/{job_id} ", exact=False).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("GET /jobs/{job_id}")
    page.get_by_role("main").get_by_role("link", name="Try it").click()
    expect(page).to_have_url(re.compile("/console/try#get_jobs_job_id$"))


def test_every_problem_that_the_docs_name_has_its_page(page: Page) -> None:
    page.goto("/docs/post_jobs")
    named = page.locator("a[href^='/problems/']").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert len(named) > 5
    for address in {*named, *(f"/problems/{slug}" for slug in TYPES)}:
        assert page.request.get(address).status == 200, address


def test_the_list_of_problems_leads_to_each_type(page: Page) -> None:
    page.goto("/problems/")
    for kind in TYPES.values():
        link = page.get_by_role("link", name=kind.title, exact=True)
        expect(link).to_have_attribute("href", f"/problems/{kind.slug}")
    page.get_by_role("link", name="Data file unusable").click()
    expect(page.locator(".lead code")).to_have_text("QAA_DATA_FILE")
    shown = json.loads(page.get_by_role("region", name="An example").inner_text().partition("\n\n")[2])
    assert shown["type"] == "/problems/data-file-unusable"


def test_the_comics_page_shows_the_pictures(page: Page) -> None:
    page.goto("/comic?num=614&num=404&num=1024")
    pictures = page.locator("main img")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
        assert picture.get_attribute("alt")
    links = page.locator(".comics a")
    assert links.count() == 2
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
    expect(page.get_by_text(re.compile(r"^Time taken: \d+\.\d\d seconds$"))).to_be_visible()
    expect(page.get_by_role("region", name="Missing").get_by_role("listitem")).to_contain_text("404")


def test_a_phone_has_the_menu_in_one_line_and_opens_it_without_scripts(new_page: NewPage) -> None:
    """It took three lines of the screen."""
    page = new_page(java_script_enabled=False, viewport={"width": 360, "height": 740})
    page.goto("/console/tasks")
    top, menu = page.get_by_role("banner"), page.get_by_role("navigation", name="Pages")
    box = top.bounding_box()
    assert box is not None
    assert box["height"] < 70
    expect(menu).to_be_hidden()
    page.get_by_role("button", name="Menu").focus()
    page.keyboard.press("Enter")
    expect(menu.get_by_role("link", name="Tasks")).to_have_attribute("aria-current", "page")
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/console/try$"))
    page.set_viewport_size({"width": 1280, "height": 740})
    expect(page.get_by_role("button", name="Menu")).to_be_hidden()
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name="Keys")).to_be_visible()
