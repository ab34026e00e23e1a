"""Errors in the console's look for browsers, and as problems for everyone else."""

import re

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as QuartClient

from quart_async_api import Settings, create_app

from .test_job_pages import PAGE


async def page_of(client: QuartClient, path: str, status: int) -> str:
    """The page of an error. A program gets the problem, with the same status and words."""
    response = await client.get(path, headers=PAGE)
    assert (response.status_code, response.mimetype) == (status, "text/html"), path
    page = await response.get_data(as_text=True)
    assert '<nav id="menu"' in page
    program = await client.get(path)
    assert (program.status_code, program.mimetype) == (status, "application/problem+json"), path
    assert (await program.get_json())["title"] in page
    return page


async def test_an_address_of_the_console_that_is_not_there_is_a_page(client: QuartClient) -> None:
    for path in (
        "/console/nothing",
        "/console/jobs/a/b/c",
        "/docs/nothing",
        "/console/try/nothing",
        "/problems/nothing",
    ):
        assert "<h1>" in await page_of(client, path, 404), path
    await page_of(client, "/console/users/1/delete", 405)  # the address of a form
    for path in ("/nothing", "/consoles", "/jobs/nothing"):
        response = await client.get(path, headers=PAGE)
        assert (response.status_code, response.mimetype) == (404, "application/problem+json"), path
    for path in ("/console", "/console/"):
        response = await client.get(path, headers=PAGE)
        assert (response.status_code, response.headers["Location"]) == (303, "/console/jobs")


async def test_a_refusal_by_a_guard_is_a_page_that_says_when_to_try_again(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"rate_limit": "2/hour"}))
    async with app.test_app():
        client = app.test_client()
        for _ in range(2):
            assert (await client.get("/docs?a=b", headers=PAGE)).status_code == 200
        for path in ("/", "/docs?a=b", "/console/jobs"):
            page = await page_of(client, path, 429)
            [seconds] = re.findall(r"Try again in (\d+) seconds", page)
            assert 1 < int(seconds) <= 3600
            assert f'<a href="{path}">Try again</a>' in page


async def test_a_fault_of_a_page_is_a_page_that_tells_nothing_of_it(
    app: Quart, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> str:
        raise RuntimeError("the secret reason")

    app.view_functions["docs.docs"] = broken
    page = await page_of(app.test_client(), "/docs", 500)
    assert "secret" not in page
    assert "The request id is" in page
    assert "the secret reason" in caplog.text
