"""Errors that an app raises itself: each has a problem type, its own or its nearest ancestor's."""

import json
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, cast

import pytest
from quart import Quart, Response, jsonify
from quart.testing import QuartClient

from quart_async_api import App, ServiceError, Settings, TaskContext, create_app, problem, task
from quart_async_api.errors import FieldError, InvalidInput, StartupError, UpstreamFailed
from quart_async_api.http.delivery.delivers import delivers
from tests.each import each

from .conftest import ended, started


@problem("exchange-closed", 409, "Exchange closed", "The exchange is closed at night. Repeat the request by day.")
class ExchangeClosed(ServiceError):
    pass


class ClosedForRepair(ExchangeClosed):
    pass


@problem("busy-exchange", 503, "Busy exchange", "The exchange has too much to do.", retry_after=7)
class BusyExchange(UpstreamFailed):
    pass


class Untyped(ServiceError):
    pass


class RatesDown(UpstreamFailed):
    pass


class Unknown(InvalidInput):
    def __init__(self, currency: str) -> None:
        super().__init__(FieldError("#/currency", f"{currency} is unknown"))


class Silent(ServiceError):
    def __str__(self) -> str:
        raise RuntimeError("has no message")


class Hollow(InvalidInput):
    def __init__(self) -> None:
        pass


RAISED: dict[str, tuple[ServiceError, int, str, str]] = {
    "its own": (ExchangeClosed("at night"), 409, "/problems/exchange-closed", "at night"),
    "its parent's": (ClosedForRepair("all week"), 409, "/problems/exchange-closed", "all week"),
    "its own, not its ancestor's": (BusyExchange("later"), 503, "/problems/busy-exchange", "later"),
    "the service's": (RatesDown("down"), 502, "/problems/upstream-failed", "down"),
    "with errors": (Unknown("XYZ"), 422, "/problems/invalid-input", "XYZ is unknown"),
    "none": (Untyped("why"), 500, "/problems/internal-server-error", "why"),
    "with a message that raises": (Silent(), 500, "/problems/internal-server-error", "The service failed"),
}


@task("quote")
async def quote(ctx: TaskContext, *, case: str) -> int:
    """Raise an error of the app."""
    raise RAISED[case][0]


@task("hollow")
async def hollow(ctx: TaskContext) -> int:
    """Raise an error without the members of its parent."""
    raise Hollow


async def as_json(result: int) -> Response:
    return jsonify(result)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[QuartClient]:
    module = ModuleType("exchange")
    vars(module).update(quote=quote, hollow=hollow)
    app: Quart = create_app(settings, tasks=[module])

    app.add_url_rule("/quote", "quote", delivers(quote, errors=(ExchangeClosed, BusyExchange))(as_json))
    async with app.test_app():
        yield cast("QuartClient", app.test_client())


@each("case", RAISED)
async def test_an_error_of_the_app_was_a_task_that_cancelled_itself(exchange: QuartClient, case: str) -> None:
    _, status, type_, detail = RAISED[case]
    job = await ended(exchange, await started(exchange, "quote", args={"case": case}))
    assert (job["error"]["status"], job["error"]["type"]) == (status, type_)
    assert detail in job["error"]["detail"]
    waited = await exchange.get("/quote", query_string={"case": case})
    later = await exchange.get(job["links"]["result"])
    for response in (waited, later):
        document = await response.get_json()
        assert response.status_code == status
        assert document["request_id"]
        assert {name: document[name] for name in job["error"]} == job["error"]
        assert response.headers.get("Retry-After") == ("7" if status == 503 else None)


async def test_an_error_that_cannot_be_described_was_a_task_that_cancelled_itself(exchange: QuartClient) -> None:
    job = await ended(exchange, await started(exchange, "hollow"))
    assert job["error"]["type"] == "/problems/task-failed"
    assert job["error"]["detail"] == "the task raised Hollow"


async def test_a_problem_of_the_app_has_its_page_and_is_in_the_document(exchange: QuartClient) -> None:
    page = await (await exchange.get("/problems/exchange-closed")).get_data(as_text=True)
    assert "The exchange is closed at night" in page
    assert "/problems/exchange-closed" in await (await exchange.get("/problems/")).get_data(as_text=True)
    api: dict[str, Any] = json.loads(await (await exchange.get("/openapi.json")).get_data(as_text=True))
    answer = api["paths"]["/quote"]["get"]["responses"]["409"]["content"]["application/problem+json"]
    assert "exchange-closed" in answer["examples"]
    assert api["components"]["examples"]["exchange-closed"]["value"]["status"] == 409


def test_a_problem_that_cannot_be_one_is_refused() -> None:
    def kind(slug: str, status: int = 409) -> type[ServiceError]:
        @problem(slug, status, "Title", "Explanation.")
        class Refused(ServiceError):
            pass

        return Refused

    for slug in ("", "Upper", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="1 to 64 lower-case letters"):
            kind(slug)
    for status in (200, 399, 600):
        with pytest.raises(ValueError, match="out of range"):
            kind("of-a-wrong-status", status)
    with pytest.raises(ValueError, match="the service has a problem"):
        kind("job-not-found")
    with pytest.raises(TypeError, match="not a subclass of ServiceError"):
        problem("of-no-error", 409, "Title", "Explanation.")(cast("type[ServiceError]", ValueError))


async def test_two_apps_of_a_process_had_the_problem_types_of_each_other(settings: Settings) -> None:
    @problem("exchange-closed", 423, "Exchange closed", "It opens at nine.")
    class AnotherClosed(ServiceError):
        pass

    def app_with(*errors: type[ServiceError]) -> App:
        app = create_app(settings, tasks=[quote])
        app.add_url_rule("/quote", "quote", delivers(quote, errors=errors)(as_json))
        return app

    async def listed(app: App, slug: str) -> tuple[bool, str]:
        async with app.test_app():
            client = app.test_client()
            names = await (await client.get("/problems/")).get_data(as_text=True)
            page = await client.get(f"/problems/{slug}")
            return slug in names, await page.get_data(as_text=True)

    assert "closed at night" in (await listed(app_with(ExchangeClosed), "exchange-closed"))[1]
    assert "opens at nine" in (await listed(app_with(AnotherClosed), "exchange-closed"))[1]
    # A task may raise an error that no route declares: its type has a page all the same.
    is_listed, page = await listed(app_with(), "busy-exchange")
    assert (is_listed, "too much to do" in page) == (False, True)
    with pytest.raises(StartupError, match="two errors have the problem type 'exchange-closed'"):
        await app_with(ExchangeClosed, AnotherClosed).startup()
