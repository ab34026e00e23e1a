"""The console calls every route, and shows what came of it."""

import ast
import json
import re
import shlex
import time

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NewPage
from tests.browser.test_pages import opened as card
from tests.server_process import ServerProcess

pytestmark = pytest.mark.browser


def send(card: Locator) -> None:
    card.get_by_role("button", name="Call").click()


def add_user(page: Page, name: str) -> str:
    """Add a user of this name and tell its id."""
    adding = card(page, "POST /add-user")
    adding.get_by_label("name").fill(name)
    adding.get_by_label("email").fill(f"{time.time_ns()}@example.com")
    send(adding)
    expect(adding.get_by_role("status")).to_contain_text("201")
    found = re.search(r'"id": (\d+)', adding.get_by_role("group", name="Body of the answer").inner_text())
    assert found
    return found[1]


def test_a_call_shows_its_answer_and_its_time(console: Page) -> None:
    for path, body in (
        ("/test", '"result": 1'),
        ("/get", '"result"'),
        ("/mock-db", "Ada Lovelace"),
        ("/gather", "Task 2 Complete"),
        ("/external-api", '"status": 200'),
        ("/comic", '"sequential_elapsed"'),
        ("/health/ready", '"pass"'),
    ):
        called = card(console, f"GET {path}")
        send(called)
        expect(called.get_by_role("status")).to_have_text(re.compile(r"^200 in \d+\.\d\d s$"))
        expect(called.get_by_role("group", name="Body of the answer")).to_contain_text(body)


def test_an_answer_shows_its_headers(console: Page) -> None:
    called = card(console, "GET /test")
    send(called)
    called.get_by_text("Headers").click()
    expect(called.get_by_text("Prefer, Accept")).to_be_visible()


def test_a_running_call_can_be_cancelled(console: Page) -> None:
    called = card(console, "GET /gather")
    send(called)
    called.get_by_role("button", name="Cancel").click()
    expect(called.get_by_role("status")).to_contain_text("Cancelled after")
    expect(called.get_by_role("button", name="Cancel")).to_be_hidden()
    send(called)
    expect(called.get_by_role("status")).to_contain_text("200")


def test_a_started_task_is_watched_until_it_is_done(console: Page) -> None:
    started = card(console, "POST /start-task")
    send(started)
    expect(started.get_by_role("progressbar")).to_be_visible()
    expect(started.get_by_role("status")).to_have_text(re.compile(r"^202 in .+; the job succeeded after .+ s$"))
    expect(started.get_by_role("progressbar")).to_have_js_property("value", 100)
    started.get_by_role("link", name="The job’s page").click()
    expect(console).to_have_url(re.compile(r"/console/jobs/[0-9a-f-]{36}$"))


def test_events_are_shown_one_by_one_and_a_delivery_is_chosen_of_four(console: Page, service: ServerProcess) -> None:
    called = card(console, "POST /start-task")
    called.get_by_label("Callback", exact=False).first.check()
    words = shlex.split(called.locator("[data-curl]").inner_text())
    assert words[3].startswith(f"{service.url}/start-task?callback_url=http%3A%2F%2F127.0.0.1")
    called.get_by_label("Stream").check()
    words = shlex.split(called.locator("[data-curl]").inner_text())
    assert words == ["curl", "-N", "-X", "POST", f"{service.url}/start-task", "-H", "Accept: text/event-stream"]
    send(called)
    events = called.get_by_role("list", name="Events").get_by_role("listitem")
    expect(events.first).to_contain_text("snapshot")
    expect(called.get_by_role("status")).to_contain_text("200")
    expect(events.last).to_contain_text("succeeded")
    socket = card(console, "GET /jobs/{job_id}/ws")
    socket.get_by_label("job id").fill(json.loads(events.first.locator("code").inner_text())["id"])
    socket.get_by_role("button", name="Connect").click()
    expect(socket.get_by_role("status")).to_contain_text("Closed with code 1000")
    expect(socket.get_by_role("list", name="Messages").get_by_role("listitem").last).to_contain_text("succeeded")


def test_a_task_runs_with_arguments_from_a_form_of_its_schema(console: Page) -> None:
    task = card(console, "TASK comic")
    task.get_by_label("num", exact=True).fill("614, 404")
    task.get_by_label("mode").select_option("sequential")
    task.get_by_text("More options").click()
    task.get_by_label("priority").fill("7")
    words = shlex.split(task.locator("[data-curl]").inner_text())
    sent = {"task": "comic", "args": {"num": [614, 404], "mode": "sequential"}, "priority": 7}
    assert json.loads(words[words.index("-d") + 1]) == sent
    console.get_by_label("Show the call for").select_option("httpx")
    line = task.locator("[data-curl]").inner_text()
    assert line.startswith("httpx.post(")
    ast.parse(line)
    assert '"num": [614, 404]' in line
    console.get_by_label("Show the call for").select_option("fetch")
    expect(task.locator("[data-curl]")).to_contain_text("await fetch(")
    line = task.locator("[data-curl]").inner_text()
    assert console.evaluate(f"(async () => (await {line}).status)()".replace("await await", "await")) == 202
    send(task)
    expect(task.get_by_role("status")).to_contain_text("the job succeeded")


def test_the_last_calls_are_kept_opened_and_sent_again(console: Page) -> None:
    for number in ("7", "8"):
        reading = card(console, "GET /user/{user_id}")
        reading.get_by_label("user id").fill(number)
        send(reading)
        expect(reading.get_by_role("status")).to_contain_text("404")
    console.reload()
    kept = console.locator("#kept")
    kept.get_by_text("Last calls (2)").click()
    kept.get_by_role("listitem").nth(1).get_by_role("button", name="Open").click()
    expect(console.locator("#get_user_user_id").get_by_label("user id")).to_have_value("7")
    kept.get_by_role("listitem").nth(0).get_by_role("button", name="Send again").click()
    expect(console.locator("#get_user_user_id").get_by_role("status")).to_contain_text("404")
    expect(console.locator("#get_user_user_id").get_by_label("user id")).to_have_value("8")
    expect(kept.get_by_text("Last calls (3)")).to_be_visible()
    # Without room for all, the newest ones are kept: it was an error in the console.
    console.evaluate(
        """() => {
          for (let length = 5 * 1024 * 1024; ; length -= 50) {
            try { return sessionStorage.setItem("other", "x".repeat(length)); } catch {}
          }
        }"""
    )
    kept.get_by_role("listitem").nth(0).get_by_role("button", name="Send again").click()
    expect(console.locator("#get_user_user_id").get_by_role("status")).to_contain_text("404")
    expect(kept.get_by_text("Last calls (3)")).to_be_visible()


def test_a_user_is_added_read_changed_listed_and_deleted(console: Page) -> None:
    user = add_user(console, "Grace <b>Hopper</b>")

    for call in ("GET", "PATCH", "DELETE"):
        card(console, f"{call} /user/{{user_id}}").get_by_label("user id").fill(user)
    reading = card(console, "GET /user/{user_id}")
    send(reading)
    expect(reading.get_by_role("group", name="Body of the answer")).to_contain_text("Grace <b>Hopper</b>")

    changing = card(console, "PATCH /user/{user_id}")
    changing.get_by_label("name").fill("Grace")
    changing.get_by_label("email").fill("")
    send(changing)
    expect(changing.get_by_role("group", name="Body of the answer")).to_contain_text('"name": "Grace"')

    listing = card(console, "GET /users")
    listing.get_by_label("limit").fill("1000")
    send(listing)
    expect(listing.get_by_role("row").filter(has_text=re.compile(rf"^{user}Grace"))).to_have_count(1)

    deleting = card(console, "DELETE /user/{user_id}")
    send(deleting)
    expect(deleting.get_by_role("status")).to_contain_text("204")
    send(reading)
    expect(reading.get_by_role("status")).to_contain_text("404")
    expect(reading.get_by_text("User not found", exact=True)).to_be_visible()


def test_a_stale_version_is_told(console: Page) -> None:
    user = add_user(console, "Edsger")
    changing = card(console, "PATCH /user/{user_id}")
    changing.get_by_label("user id").fill(user)
    changing.get_by_label("If-Match").fill('"0"')
    send(changing)
    expect(changing.get_by_role("status")).to_contain_text("412")


def test_wrong_input_is_told_field_by_field_with_a_page_about_it(console: Page) -> None:
    adding = card(console, "POST /add-user")
    adding.get_by_label("name").fill("")
    adding.get_by_label("email").fill("<img src=x>")
    send(adding)
    expect(adding.get_by_role("status")).to_have_text(re.compile(r"^422 in \d+\.\d\d s: Invalid input$"))
    entries = adding.locator(".problem").get_by_role("listitem")
    expect(entries.filter(has_text=re.compile("^name: "))).to_have_count(1)
    expect(entries.filter(has_text=re.compile("^email: "))).to_have_count(1)
    adding.get_by_role("link", name="About this type of problem").click()
    expect(console.get_by_role("heading", level=1)).to_contain_text("Invalid input")


def test_comics_open_as_a_page_of_the_same_ones(console: Page) -> None:
    comics = card(console, "GET /comic")
    comics.get_by_label("num", exact=True).fill("614, 1024")
    send(comics)
    comics.get_by_role("link", name="Open as a page").click()
    assert console.url.endswith("/comic?num=614&num=1024")
    expect(console.get_by_role("heading", level=1)).to_have_text("2 comics")


def test_the_command_is_what_the_form_would_send(console: Page, service: ServerProcess) -> None:
    adding = card(console, "POST /add-user")
    hard = 'Rosa O\'Neil "$HOME" `id` \\ ! é'
    adding.get_by_label("name").fill(hard)
    words = shlex.split(adding.locator("[data-curl]").inner_text())
    assert words[:4] == ["curl", "-X", "POST", f"{service.url}/add-user"]
    assert json.loads(words[words.index("-d") + 1])["name"] == hard

    comics = card(console, "GET /comic")
    comics.get_by_label("number").fill("7")
    comics.get_by_label("mode").select_option("sequential")
    words = shlex.split(comics.locator("[data-curl]").inner_text())
    assert words == ["curl", f"{service.url}/comic?number=7&mode=sequential"]

    reading = card(console, "GET /user/{user_id}")
    reading.get_by_label("user id").fill("../users")
    assert shlex.split(reading.locator("[data-curl]").inner_text()) == ["curl", f"{service.url}/user/..%2Fusers"]
    reading.get_by_label("user id").fill("..")  # it called GET /
    expect(reading.locator("[data-curl]")).to_have_text("No URL can have “..” here: it would lead to another address.")
    send(reading)
    expect(reading.get_by_label("user id")).to_be_focused()
    assert reading.get_by_label("user id").evaluate("field => field.validity.customError")
    expect(reading.get_by_role("status")).to_be_empty()
    reading.get_by_label("user id").fill("...")
    send(reading)
    expect(reading.get_by_role("status")).to_contain_text("404")


def test_the_commands_are_the_same_with_scripts_and_without(new_page: NewPage) -> None:
    pages = [new_page(java_script_enabled=scripts) for scripts in (True, False)]
    pages[0].goto("/console/try")
    for call in ("GET /comic", "POST /jobs", "TASK comic", "PATCH /user/{user_id}", "GET /jobs/{job_id}/ws"):
        name = card(pages[0], call).get_attribute("id")
        pages[1].goto(f"/console/try/{name}")
        command = pages[1].locator("[data-curl]").inner_text()
        assert command.startswith("curl ")
        expect(pages[0].locator(f"#{name} [data-curl]")).to_have_text(command)


def test_a_command_can_be_copied(new_page: NewPage, service: ServerProcess) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto("/console/try")
    copying = card(page, "GET /test")
    copying.get_by_role("button", name="Copy").click()
    expect(copying.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"curl {service.url}/test"


def test_it_can_be_used_by_keyboard_alone(console: Page) -> None:
    def focused() -> str:
        return str(console.evaluate("document.activeElement.id || document.activeElement.innerText"))

    console.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    console.keyboard.press("Enter")
    console.keyboard.press("Tab")
    outline = console.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    for _ in range(200):
        if "/comic" in focused() and console.evaluate("document.activeElement.localName") == "summary":
            break
        console.keyboard.press("Tab")
    console.keyboard.press("Enter")
    expect(console.locator("#get_comic form")).to_be_attached()
    for _ in range(20):
        if focused() == "get_comic-number":
            break
        console.keyboard.press("Tab")
    console.keyboard.type("3")
    console.keyboard.press("Enter")
    expect(card(console, "GET /comic").get_by_role("status")).to_contain_text("200")
