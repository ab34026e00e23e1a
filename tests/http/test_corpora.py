"""Test data written by others (tests/package.json): the big list of naughty strings, and the JSON parsing test suite."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app

from . import job_tasks
from .asgi import ask
from .conftest import ended, read_events, started
from .test_parsers import JSON, PLACES, Nowhere, assert_answered

MODULES = Path(__file__).parents[1] / "node_modules"
SHARE = 40  # of all strings, one in so many at each place; the soak tries all at all


def corpus(file: str) -> list[Any]:
    """The array that the file of a package holds, as JSON or as a JavaScript module of nothing else."""
    path = MODULES / file
    if not path.is_file():
        pytest.skip("npm has not installed tests/package.json; `make test` does, where there is npm")
    text = path.read_text(encoding="utf-8")
    found: list[Any] = json.loads(text[text.index("[") :].rstrip(" ;\n"))
    return found


@pytest.fixture
def naughty() -> list[str]:
    return corpus("blns/resources/blns.json")


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Quart]:
    trusting = settings.model_copy(update={"trusted_proxies": ("127.0.0.1",), "callback_allow_private": True})
    app = create_app(trusting, tasks=[job_tasks], callback_resolver=Nowhere())
    async with app.test_app():
        yield app


@pytest.mark.slow
async def test_a_naughty_string_was_answered_with_500(service: Quart, naughty: list[str]) -> None:
    for number, place in enumerate(PLACES):
        for text in naughty[number % SHARE :: SHARE]:
            await assert_answered(service, place, text.encode())


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_every_naughty_string_everywhere_is_answered(service: Quart, naughty: list[str]) -> None:
    for place in PLACES:
        for text in naughty:
            await assert_answered(service, place, text.encode())


@pytest.mark.slow
async def test_a_naughty_name_came_back_changed(client: QuartClient, naughty: list[str]) -> None:
    accepted = 0
    for number, text in enumerate(naughty):
        sent = {"name": text, "email": f"a{number}@example.com"}
        response = await client.post("/add-user", json=sent)
        fits = 1 <= len(text) <= 50 and bool(text.strip()) and "\0" not in text
        assert response.status_code == (201 if fits else 422), text
        if fits:
            accepted += 1
            user = await (await client.get(response.headers["Location"])).get_json()
            assert user["name"] == text
    assert accepted > 300


@pytest.mark.slow
async def test_a_naughty_text_of_a_job_came_back_changed(jobs: QuartClient, naughty: list[str]) -> None:
    value = [*naughty, {text: text for text in naughty}]
    job = await ended(jobs, await started(jobs, "repeat", args={"value": value}))
    assert (job["status"], job["args"], job["result"]) == ("succeeded", {"value": value}, value)
    assert await (await jobs.get(job["links"]["result"])).get_json() == value
    told = read_events(
        await (await jobs.get(job["links"]["events"], headers={"Last-Event-ID": f"{job['id']}:0"})).get_data(
            as_text=True
        )
    )
    assert [event.data["text"] for event in told if event.name == "log"] == naughty
    assert job["progress"]["message"] == naughty[-1]
    assert {event.data["message"] for event in told if event.name == "progress"} <= set(naughty)


@pytest.mark.slow
async def test_a_naughty_key_or_id_named_another_request(service: Quart, naughty: list[str]) -> None:
    client = service.test_client()
    for text in naughty:
        sent = text.encode().replace(b"\r", b"").replace(b"\n", b"")
        headers = (*JSON, (b"idempotency-key", sent))
        body = json.dumps({"task": "repeat", "args": {"value": text}, "delay": 600}).encode()
        first, again = [await ask(service, "POST", "/jobs", headers=headers, body=body) for _ in range(2)]
        assert (first.status, again.status) in ((202, 202), (422, 422)), text
        if first.status == 202:
            assert first.body == again.body, text
        if text.isascii() and text.isprintable():
            echoed = (await client.get("/health/live", headers={"X-Request-ID": text})).headers["X-Request-ID"]
            assert (echoed == text) is (0 < len(text) <= 128 and " " not in text), text


@pytest.mark.slow
async def test_a_json_text_was_read_otherwise_than_the_standard_says(service: Quart) -> None:
    suite = corpus("json-test-suite/data/parsing.js")
    assert len(suite) > 300
    for case in suite:
        kind, raw = case["name"][0], case["input"].encode("utf-8", "surrogatepass")
        for path in ("/jobs", "/add-user"):
            answer = await ask(service, "POST", path, headers=JSON, body=raw)
            # JSON that is no job and no user is invalid input; what is no JSON is a bad request.
            assert answer.status in {"y": (422,), "n": (400,), "i": (400, 422)}[kind], (path, case, answer.status)
        if kind != "n":
            await _is_read_as_it_is(service, raw, must=kind == "y")


async def test_a_number_or_text_at_an_edge_of_json_was_stored_as_another(service: Quart) -> None:
    for case in corpus("json-test-suite/data/transform.js"):
        await _is_read_as_it_is(service, case["input"].encode("utf-8", "surrogatepass"), must=False)


async def _is_read_as_it_is(service: Quart, raw: bytes, *, must: bool) -> None:
    """The JSON as an argument: accepted and stored as it is, or else refused."""
    body = b'{"task": "repeat", "delay": 600, "args": {"value": ' + raw + b"}}"
    answer = await ask(service, "POST", "/jobs", headers=JSON, body=body)
    assert answer.status == 202 if must else answer.status in (202, 400, 422), (raw, answer.status, answer.body)
    if answer.status == 202:
        assert json.loads(answer.body)["args"] == {"value": json.loads(raw)}, raw
