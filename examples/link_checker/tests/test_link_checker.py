"""The link checker as its users meet it, against a site that is really there. Each job has ended when a call returns."""

import pytest
from conftest import Site
from link_checker.links import links_of

from quart_async_api.client import InvalidRequest, Status
from quart_async_api.testing import ServiceUnderTest

pytestmark = pytest.mark.qaa_jobs("inline")


def test_links_are_absolute_and_each_is_there_once() -> None:
    html = '<a href="b#x">b</a><a href="b">b</a><img src="//cdn.example/p.png"><a href="tel:1">t</a><a href="http://[">?</a>'
    assert links_of(html, "http://a.example/dir/") == ["http://a.example/dir/b", "http://cdn.example/p.png"]


async def test_a_link_is_checked(qaa_service: ServiceUnderTest, site: Site) -> None:
    job = await qaa_service.api.submit("check-link", {"url": f"{site.url}/missing"})
    assert (await qaa_service.api.result(job))["status"] == 404


async def test_a_link_that_cannot_be_reached_is_tried_three_times(qaa_service: ServiceUnderTest, site: Site) -> None:
    submitted = await qaa_service.api.submit("check-link", {"url": f"{site.url}/cut-off"})
    assert (await qaa_service.api.get(submitted)).status is Status.QUEUED
    await qaa_service.advance(minutes=1)
    job = await qaa_service.api.get(submitted)
    assert (job.status, job.attempt, job.max_attempts) == (Status.FAILED, 3, 3)
    assert job.error is not None
    assert job.error.status == 502
    assert [attempt.outcome for attempt in job.attempts] == ["failed"] * 3


async def test_an_address_that_is_none_is_refused_at_once(qaa_service: ServiceUnderTest) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await qaa_service.api.submit("check-link", {"url": "ftp://example.com"})
    assert refused.value.problem.errors[0].pointer == "#/args/url"
    qaa_service.refute_enqueued("check-link")


async def test_a_site_s_broken_links_are_named(qaa_service: ServiceUnderTest, site: Site) -> None:
    job = await qaa_service.api.submit("check-site", {"url": site.url})
    found = await qaa_service.api.result(job)
    assert found["checked"] == 3
    assert [(link["url"], link["status"]) for link in found["broken"]] == [
        (f"{site.url}/missing.html", 404),
        (f"{site.url}/cut-off", None),
    ]
    assert found["broken"][1]["problem"]
    assert site.calls["/good"] == 1


async def test_it_says_how_far_it_is_and_what_it_found(qaa_service: ServiceUnderTest, site: Site) -> None:
    job = await qaa_service.api.get(await qaa_service.api.submit("check-site", {"url": site.url}))
    assert job.progress is not None
    assert (job.progress.current, job.progress.total, job.progress.percent) == (3, 3, 100.0)
    from_the_start = {"Last-Event-ID": f"{job.id}:0"}
    response = await qaa_service.client.get(f"/jobs/{job.id}/events", headers=from_the_start)
    stream = await response.get_data(as_text=True)
    assert "3 links" in stream
    assert f"broken: {site.url}/missing.html (404)" in stream
    assert "event: succeeded" in stream


async def test_no_more_links_are_asked_for_at_once_than_allowed(qaa_service: ServiceUnderTest, site: Site) -> None:
    job = await qaa_service.api.submit("check-site", {"url": f"{site.url}/many", "at_once": 4})
    found = await qaa_service.api.result(job)
    assert found["checked"] == 30
    assert found["broken"] == []
    assert 2 <= site.most_at_once <= 4


async def test_the_report_is_a_page_for_a_browser_and_text_for_a_terminal(
    qaa_service: ServiceUnderTest, site: Site
) -> None:
    client, path = qaa_service.client, f"/report?url={site.url}"
    page = await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.mimetype == "text/html"
    assert f'<a href="{site.url}/missing.html">' in await page.get_data(as_text=True)
    text = await client.get(path)
    assert text.mimetype == "text/plain"
    assert f"404  {site.url}/missing.html\n" in await text.get_data(as_text=True)
    found = await client.get(path, headers={"Accept": "application/json"})
    assert (await found.get_json())["checked"] == 3


async def test_the_report_of_a_page_that_is_not_there_is_a_problem(qaa_service: ServiceUnderTest, site: Site) -> None:
    response = await qaa_service.client.get(f"/report?url={site.url}/nowhere")
    assert response.status_code == 502
    assert response.mimetype == "application/problem+json"


async def test_the_report_can_come_later_and_its_key_finds_it_again(qaa_service: ServiceUnderTest, site: Site) -> None:
    client, path = qaa_service.client, f"/report?url={site.url}"
    first = await client.get(path, headers={"Prefer": "respond-async", "Idempotency-Key": "mine"})
    assert first.status_code == 202
    again = await client.get(path, headers={"Prefer": "respond-async, wait=20", "Idempotency-Key": "mine"})
    assert "3 checked" in await again.get_data(as_text=True)
    assert first.headers["Location"] in again.headers["Link"]


async def test_the_documents_of_the_service_go_on_with_a_route_of_ours(qaa_service: ServiceUnderTest) -> None:
    assert (await qaa_service.client.get("/openapi.json")).status_code == 200
    names = {task.name for task in await qaa_service.api.tasks()}
    assert {"check-link", "check-site", "start-task"} <= names
