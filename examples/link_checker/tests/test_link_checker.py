"""The link checker as its users meet it, against a site that is really there."""

from collections.abc import Mapping
from typing import Any

from conftest import Site
from link_checker.links import links_of
from quart.typing import TestClientProtocol as Client

WAIT = {"Prefer": "wait=20"}


async def submitted(client: Client, task: str, args: Mapping[str, Any], headers: Mapping[str, str] = WAIT) -> Any:
    response = await client.post("/jobs", json={"task": task, "args": args}, headers=dict(headers))
    assert response.status_code in (200, 202), await response.get_data(as_text=True)
    return await response.get_json()


def test_links_are_absolute_and_each_is_there_once() -> None:
    html = '<a href="b#x">b</a><a href="b">b</a><img src="//cdn.example/p.png"><a href="tel:1">t</a><a href="http://[">?</a>'
    assert links_of(html, "http://a.example/dir/") == ["http://a.example/dir/b", "http://cdn.example/p.png"]


async def test_a_link_is_checked(client: Client, site: Site) -> None:
    job = await submitted(client, "check-link", {"url": f"{site.url}/missing"})
    assert job["status"] == "succeeded"
    assert job["result"]["status"] == 404


async def test_a_link_that_cannot_be_reached_is_tried_three_times(client: Client, site: Site) -> None:
    job = await submitted(client, "check-link", {"url": f"{site.url}/cut-off"})
    assert (job["status"], job["attempt"], job["max_attempts"]) == ("failed", 3, 3)
    assert job["error"]["status"] == 502
    monitor = await (await client.get(f"/jobs/{job['id']}")).get_json()
    assert [attempt["outcome"] for attempt in monitor["attempts"]] == ["failed"] * 3


async def test_an_address_that_is_none_is_refused_at_once(client: Client) -> None:
    response = await client.post("/jobs", json={"task": "check-link", "args": {"url": "ftp://example.com"}})
    assert response.status_code == 422
    assert (await response.get_json())["errors"][0]["pointer"] == "#/args/url"


async def test_a_site_s_broken_links_are_named(client: Client, site: Site) -> None:
    job = await submitted(client, "check-site", {"url": site.url})
    assert job["status"] == "succeeded"
    found = job["result"]
    assert found["checked"] == 3
    assert [(link["url"], link["status"]) for link in found["broken"]] == [
        (f"{site.url}/missing.html", 404),
        (f"{site.url}/cut-off", None),
    ]
    assert found["broken"][1]["problem"]
    assert site.calls["/good"] == 1


async def test_it_says_how_far_it_is_and_what_it_found(client: Client, site: Site) -> None:
    job = await submitted(client, "check-site", {"url": site.url})
    assert job["progress"] | {"message": None} == {"current": 3, "total": 3, "percent": 100.0, "message": None}
    response = await client.get(f"/jobs/{job['id']}/events", headers={"Last-Event-ID": f"{job['id']}:0"})
    stream = await response.get_data(as_text=True)
    assert "3 links" in stream
    assert f"broken: {site.url}/missing.html (404)" in stream
    assert "event: succeeded" in stream


async def test_no_more_links_are_asked_for_at_once_than_allowed(client: Client, site: Site) -> None:
    job = await submitted(client, "check-site", {"url": f"{site.url}/many", "at_once": 4})
    assert job["result"]["checked"] == 30
    assert job["result"]["broken"] == []
    assert 2 <= site.most_at_once <= 4


async def test_the_report_is_a_page_for_a_browser_and_text_for_a_terminal(client: Client, site: Site) -> None:
    path = f"/report?url={site.url}"
    page = await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.mimetype == "text/html"
    assert f'<a href="{site.url}/missing.html">' in await page.get_data(as_text=True)
    text = await client.get(path)
    assert text.mimetype == "text/plain"
    assert f"404  {site.url}/missing.html\n" in await text.get_data(as_text=True)
    found = await client.get(path, headers={"Accept": "application/json"})
    assert (await found.get_json())["checked"] == 3


async def test_the_report_of_a_page_that_is_not_there_is_a_problem(client: Client, site: Site) -> None:
    response = await client.get(f"/report?url={site.url}/nowhere")
    assert response.status_code == 502
    assert response.mimetype == "application/problem+json"


async def test_the_report_can_come_later_and_its_key_finds_it_again(client: Client, site: Site) -> None:
    path = f"/report?url={site.url}"
    first = await client.get(path, headers={"Prefer": "respond-async", "Idempotency-Key": "mine"})
    assert first.status_code == 202
    again = await client.get(path, headers={"Prefer": "respond-async, wait=20", "Idempotency-Key": "mine"})
    assert "3 checked" in await again.get_data(as_text=True)
    assert first.headers["Location"] in again.headers["Link"]


async def test_the_documents_of_the_service_go_on_with_a_route_of_ours(client: Client) -> None:
    assert (await client.get("/openapi.json")).status_code == 200
    names = [item["name"] for item in (await (await client.get("/tasks")).get_json())["items"]]
    assert {"check-link", "check-site", "start-task"} <= set(names)
