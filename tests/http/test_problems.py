"""Every error, on every route, is an RFC 9457 problem document; none is a 500, a traceback, or writes anything."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app, errors
from quart_async_api.problem_types import BY_ERROR, TYPES
from tests.each import each

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
JSON = {"Content-Type": "application/json"}
BAD_BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "empty": (JSON, b""),
    "malformed": (JSON, b'{"name": '),
    "two documents": (JSON, b"{} {}"),
    "not UTF-8": (JSON, b'{"name": "\xff", "email": "a@example.com"}'),
    "a lone surrogate": (JSON, b'{"name": "\\ud800", "email": "a@example.com"}'),
    "NaN": (JSON, b'{"name": NaN, "email": "a@example.com"}'),
    "deeply nested": (JSON, b"[" * 100_000),
    "deeply nested in a field": (JSON, b'{"x":' * 5_000 + b"1" + b"}" * 5_000),
    "NUL": (JSON, b'{"name": "\\u0000", "email": "a\\u0000@example.com"}'),
    "a raw NUL": (JSON, b'{"name": "\0", "email": "a@example.com"}'),
    "a wrong type": (JSON, b'["name"]'),
    "oversized": (JSON, b" " * (1024 * 1024 + 1)),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"name=a&email=a@example.com"),
    "no content type": ({}, b'{"name": "a", "email": "a@example.com"}'),
    "a nonsense content type": ({"Content-Type": "\x01;;="}, b"{}"),
}


def assert_is_problem(response: Any, document: Any) -> None:
    assert response.mimetype == "application/problem+json"
    assert document["status"] == response.status_code
    assert document["error"] == document["title"]
    assert document["type"].removeprefix("/problems/") in TYPES
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in str(document)


def paths(app: Quart) -> Iterator[tuple[str, set[str]]]:
    """An address of every route, with the methods that it takes."""
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            continue
        path = rule.rule.replace("<path:filename>", "console.css").replace("<user_id>", "1").replace("<job_id>", "1")
        found.setdefault(path.replace("<slug>", "not-found"), set()).update(rule.methods or ())
    yield from sorted(found.items())


@pytest.fixture
async def unwritten(app: Quart, client: QuartClient) -> AsyncIterator[None]:
    """Whatever the test does, no user and no job comes of it."""
    yield
    assert await (await client.get("/users")).get_json() == []
    assert (await (await client.get("/jobs")).get_json())["items"] == []


@pytest.mark.usefixtures("unwritten")
async def test_a_wrong_method_is_a_problem_on_every_route(app: Quart, client: QuartClient) -> None:
    for path, taken in paths(app):
        for method in METHODS:
            # They ask for the job named events, and for the pages of the job or task named cancel.
            if (
                method in taken
                or (path, method) == ("/jobs/events", "DELETE")
                or (path.startswith(("/console/jobs/", "/console/tasks/")) and method in ("GET", "HEAD"))
            ):
                continue
            response = await client.open(path, method=method)
            assert response.status_code == 405, (path, method)
            allowed = set(response.headers["Allow"].split(", "))
            assert taken <= allowed, path
            assert method not in allowed, path
            if method != "HEAD":
                assert_is_problem(response, await response.get_json())


@pytest.mark.usefixtures("unwritten")
@each("kind", BAD_BODIES)
async def test_a_bad_body_is_a_problem_on_every_route_that_reads_one(
    app: Quart, client: QuartClient, kind: str
) -> None:
    headers, body = BAD_BODIES[kind]
    for path, taken in paths(app):
        for method in taken & {"POST", "PATCH", "PUT"} - {"GET"}:
            if path in ("/start-task", "/sign-in", "/sign-out", "/tickets") or path.startswith("/console/"):
                continue  # they take a form, or no body
            response = await client.open(path, method=method, headers=headers, data=body)
            assert response.status_code in (400, 404, 413, 415, 422), (path, method, await response.get_data())
            assert_is_problem(response, await response.get_json())


@pytest.mark.usefixtures("unwritten")
async def test_an_oversized_body_is_refused_on_every_route_whether_it_is_read_or_not(
    app: Quart, client: QuartClient
) -> None:
    for path, taken in paths(app):
        for method in taken - {"HEAD"}:
            response = await client.open(path, method=method, data=b" " * (1024 * 1024 + 1))
            assert response.status_code == 413, (path, method)
            assert_is_problem(response, await response.get_json())


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize(
    "suffix", ["?number=%00", "?limit=%FF", "?num=%F0%28", "?" + "a=1&" * 1000, "/%00", "/..", "//", "\\"]
)
async def test_nonsense_in_the_address_is_never_the_servers_fault(app: Quart, client: QuartClient, suffix: str) -> None:
    for path, taken in paths(app):
        if "GET" in taken and path not in ("/start-task", "/gather", "/jobs/events", "/console/pulse"):
            response = await client.get(path + (suffix if path != "/" else suffix.lstrip("/")))
            assert response.status_code < 500, path + suffix
            if response.status_code >= 400 and not path.startswith("/console/"):
                assert_is_problem(response, await response.get_json())


async def test_an_unknown_address_is_a_problem(client: QuartClient) -> None:
    for path in (
        "/nothing",
        "/test/",
        "/test//",
        "/static/nothing",
        "/problems/nothing",
        "/\U0001f600",
    ):
        response = await client.get(path)
        assert response.status_code == 404
        assert_is_problem(response, await response.get_json())


async def test_a_fault_of_ours_is_a_500_that_tells_nothing_of_it(
    app: Quart, client: QuartClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("the secret reason")

    response = await client.get("/broken")
    document = await response.get_json()
    assert response.status_code == 500
    assert_is_problem(response, document)
    assert "secret" not in str(document)
    assert "the secret reason" in caplog.text


BRANCHES = {errors.ServiceError, errors.UpstreamError, errors.TaskError}  # of the tree; none is ever raised itself
MET_BY_CLIENTS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ServiceError) and not issubclass(kind, errors.StartupError)
]
MADE_OF = {
    errors.InvalidInput: (errors.FieldError("#/x", "y"),),
    errors.JobExpired: ("1", "test", "2026-01-01"),
    errors.QuotaExceeded: ("default", "600 requests a minute", 5),
    errors.ResourceMissing: ("Pool",),
}


async def test_every_error_of_the_tree_has_its_problem(settings: Settings, subtests: pytest.Subtests) -> None:
    app, kinds = create_app(settings), [kind for kind in MET_BY_CLIENTS if kind not in BRANCHES]

    @app.get("/raise/<int:number>")
    async def fail(number: int) -> str:
        raise kinds[number](*MADE_OF.get(kinds[number], ()))

    async with app.test_app():
        for number, kind in enumerate(kinds):
            with subtests.test(kind=kind):
                expected = next(BY_ERROR[base] for base in kind.__mro__ if base in BY_ERROR)
                response = await app.test_client().get(f"/raise/{number}")
                assert response.status_code == expected.status
                assert_is_problem(response, await response.get_json())
                assert ("Retry-After" in response.headers) == (expected.retry_after is not None)


async def test_every_problem_type_has_its_page(client: QuartClient) -> None:
    listing = await (await client.get("/problems/")).get_data(as_text=True)
    for kind in TYPES.values():
        response = await client.get(kind.uri)
        assert response.status_code == 200
        assert kind.title in await response.get_data(as_text=True)
        assert kind.uri in listing
