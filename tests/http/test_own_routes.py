"""Routes of tasks by @delivers, for any method: arguments in the path, a body or the query, in all four deliveries."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel, Field
from quart import Blueprint, Response
from quart.testing import QuartClient

from quart_async_api import (
    Answer,
    App,
    Scope,
    ServiceError,
    Settings,
    TaskContext,
    create_app,
    delivers,
    needs,
    operation,
    problem,
    task,
)
from tests.each import each

from .conftest import ended

blueprint = Blueprint("shop", __name__)


class Line(BaseModel):
    article: str
    count: int = 1


@problem("sold-out", 409, "Sold out", "The shop has none left. Order another article.")
class SoldOut(ServiceError):
    """The shop has none left."""


@task("order")
async def order(
    ctx: TaskContext, *, customer: Annotated[int, Field(ge=1)], lines: list[Line], note: str | None = None
) -> dict[str, Any]:
    """Order articles."""
    if any(line.article == "gold" for line in lines):
        raise SoldOut("no gold is left")
    return {"customer": customer, "articles": [line.article for line in lines] * lines[0].count, "note": note}


@task("price")
async def price(ctx: TaskContext, *, article: str, count: int = 1) -> list[Any]:
    """Say the price."""
    return [article, count]


@task("tidy")
async def tidy(ctx: TaskContext, *, shelf: int, deep: bool = False) -> list[Any]:
    """Tidy a shelf."""
    return [shelf, deep]


@blueprint.post("/customers/<customer>/orders")
@delivers(order, tag="Orders", errors=(SoldOut,))
async def orders(result: dict[str, Any]) -> None:
    """Orders for a customer."""


@blueprint.route("/prices/<article>", methods=["GET", "DELETE"])
@delivers(price, scope=Scope.READ)
async def prices(result: list[Any]) -> Response:
    """A price."""
    return Response(f"{result[1]} {result[0]}", content_type="text/plain")


@blueprint.put("/shelves/<int(min=1):shelf>/tidy")
@needs(Scope.ADMIN, audited="shelf.tidy")
@delivers(tidy)
async def shelves(result: list[Any]) -> None:
    """Tidies."""


class Shelf(BaseModel):
    number: Annotated[int, Field(ge=1, le=99)]


class Count(BaseModel):
    left: Annotated[int, Field(ge=10)]


@blueprint.put("/shelves/<number>")
@operation("Shelves", "Count a shelf", path=Shelf, body=Count, answers={200: Answer("The count", Count)})
async def counted(path: Shelf, body: Count) -> dict[str, int]:
    """Counts."""
    return {"left": path.number + body.left}


@dataclass
class Row:
    """As one of a database, with more than callers may see."""

    left: object
    cost: int = 7


class Left(BaseModel):
    left: Annotated[int, Field(serialization_alias="pieces")]
    unit: str = "piece"


RETURNED: dict[str, Any] = {
    "model": Left(left=3),
    "row": Row(3),
    "dict": {"left": "3", "cost": 7},
    "of another status": ({"left": 3}, 201, {"Location": "/left/3"}),
    "response": Response("as it is"),
    "undeclared": ("as it is", 203),
    "wrong": {"left": "many"},
}


@blueprint.get("/left/<case>")
@operation("Shelves", "Count", answers={200: Answer("Left", Left), 201: Answer("Left", list[Left] | Left)})
async def left(case: str) -> Any:
    return RETURNED[case]


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[App]:
    settings = settings.model_copy(update={"callback_allow_private": True})
    app = create_app(settings, tutorial=False, tasks=[order, price, tidy], blueprints=[blueprint])
    async with app.test_app():
        yield app


@pytest.fixture
def shopper(shop: App) -> QuartClient:
    return cast("QuartClient", shop.test_client())


ORDER = {"lines": [{"article": "tea", "count": 2}], "note": "soon"}
ORDERED = {"customer": 7, "articles": ["tea", "tea"], "note": "soon"}


async def test_a_route_with_a_body_and_a_path_parameter_has_all_deliveries(shopper: QuartClient) -> None:
    path = "/customers/7/orders"
    assert await (await shopper.post(path, json=ORDER)).get_json() == ORDERED
    key = {"Prefer": "respond-async", "Idempotency-Key": "one"}
    first = await shopper.post(path, json=ORDER, headers=key)
    again = await shopper.post(path, json=ORDER, headers=key)
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    job = await first.get_json()
    assert (await again.get_json())["id"] == job["id"]
    assert (await ended(shopper, job))["result"] == ORDERED
    assert (await shopper.post(path, json=ORDER | {"note": "late"}, headers=key)).status_code == 422
    streamed = await shopper.post(path, json=ORDER, headers={"Accept": "text/event-stream"})
    assert "event: succeeded" in await streamed.get_data(as_text=True)
    called = await shopper.post(f"{path}?callback_url=http://127.0.0.1:1/", json=ORDER)
    job = await called.get_json()
    assert (called.status_code, (await ended(shopper, job))["result"]) == (202, ORDERED)
    told = await (await shopper.get(f"/jobs/{job['id']}/callbacks")).get_json()
    assert [each["type"] for each in told["items"]] == ["job.succeeded"]


@each(
    ("path", "body", "pointers"),
    [
        ("/customers/0/orders", {"lines": []}, {"#/customer"}),
        (
            "/customers/me/orders",
            {"lines": [{"count": "x"}], "more": 1},
            {"#/customer", "#/lines/0/article", "#/lines/0/count", "#/more"},
        ),
        ("/customers/7/orders", {"lines": [], "customer": 8}, {"#/customer"}),
        ("/customers/7/orders", {}, {"#/lines"}),
        ("/customers/7/orders", [], {"#"}),
    ],
)
async def test_bad_input_is_named_wherever_it_is(
    shopper: QuartClient, path: str, body: object, pointers: set[str]
) -> None:
    response = await shopper.post(path, json=body)
    assert response.status_code == 422
    assert {each["pointer"] for each in (await response.get_json())["errors"]} == pointers


async def test_other_methods_take_the_rest_from_the_query_or_an_optional_body(shopper: QuartClient) -> None:
    for method in ("GET", "DELETE"):
        response = await shopper.open("/prices/tea?count=3&article=gold", method=method)
        assert await response.get_data() == b"3 tea"
    wrong = await shopper.get("/prices/tea?count=many")
    assert [each["pointer"] for each in (await wrong.get_json())["errors"]] == ["#/count"]
    assert await (await shopper.put("/shelves/2/tidy")).get_json() == [2, False]
    assert await (await shopper.put("/shelves/2/tidy", json={"deep": True})).get_json() == [2, True]
    assert (await shopper.put("/shelves/2/tidy", data=b"deep")).status_code == 415
    assert (await shopper.put("/shelves/0/tidy")).status_code == 404
    refused = await shopper.post("/customers/7/orders", json={"lines": [{"article": "gold"}]})
    assert ((await refused.get_json())["type"], refused.status_code) == ("/problems/sold-out", 409)


async def test_the_document_and_the_pages_have_the_routes_without_a_further_line(shopper: QuartClient) -> None:
    document = await (await shopper.get("/openapi.json")).get_json()
    post = document["paths"]["/customers/{customer}/orders"]["post"]
    parameters = {each["name"]: each for each in post["parameters"]}
    assert (parameters["customer"]["in"], parameters["customer"]["schema"]["minimum"]) == ("path", 1)
    assert (parameters["callback_url"]["in"], post["tags"]) == ("query", ["Orders"])
    body = document["components"]["schemas"][post["requestBody"]["content"]["application/json"]["schema"]["$ref"][21:]]
    assert (body["properties"].keys(), body["required"]) == ({"lines", "note"}, ["lines"])
    assert "sold-out" in post["responses"]["409"]["content"]["application/problem+json"]["examples"]
    get, delete = (document["paths"]["/prices/{article}"][method] for method in ("get", "delete"))
    for described in (get, delete):
        places = {each["name"]: each["in"] for each in described["parameters"]}
        assert (places["article"], places["count"], "requestBody" in described) == ("path", "query", False)
    assert document["paths"]["/shelves/{shelf}/tidy"]["put"]["requestBody"]["required"] is False
    name = post["operationId"]
    for page in ("/docs", "/console/try"):
        assert name in await (await shopper.get(page)).get_data(as_text=True)
        assert "customer" in await (await shopper.get(f"{page}/{name}")).get_data(as_text=True)


async def test_a_plain_route_has_the_parameters_of_its_path_checked(shopper: QuartClient) -> None:
    assert await (await shopper.put("/shelves/7", json={"left": 10})).get_json() == {"left": 17}
    for number in ("0", "100", "seven", "9" * 30, "%00"):
        refused = await shopper.put(f"/shelves/{number}", json={"left": 10})
        assert [each["pointer"] for each in (await refused.get_json())["errors"]] == ["#/number"]
    put = (await (await shopper.get("/openapi.json")).get_json())["paths"]["/shelves/{number}"]["put"]
    assert (put["parameters"][0]["schema"]["maximum"], "422" in put["responses"]) == (99, True)
    # One that is made of the schema alone, as 1, would break its bound.
    assert put["requestBody"]["content"]["application/json"].keys() == {"schema"}


@pytest.mark.parametrize("case", RETURNED)
async def test_what_a_plain_route_returns_is_sent_as_its_answer_says(shopper: QuartClient, case: str) -> None:
    response = await shopper.get(f"/left/{case}")
    if case in ("response", "undeclared"):
        assert await response.get_data() == b"as it is"
    elif case == "wrong":
        assert (response.status_code, (await response.get_json())["title"]) == (500, "Internal server error")
    else:
        assert await response.get_data() == b'{"pieces":3,"unit":"piece"}'
        assert response.headers["Content-Type"] == "application/json"
        other = case == "of another status"
        assert (response.status_code, response.headers.get("Location")) == ((201, "/left/3") if other else (200, None))


async def test_a_key_needs_the_scope_of_the_route(shop: App, shopper: QuartClient) -> None:
    _, secret = await shop.service.keys.create("reader", (Scope.READ,))
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await shopper.get("/prices/tea", headers=headers)).status_code == 200
    assert (await shopper.delete("/prices/tea", headers=headers)).status_code == 200
    assert (await shopper.post("/customers/7/orders", json=ORDER, headers=headers)).status_code == 403
    assert (await shopper.put("/shelves/2/tidy", headers=headers)).status_code == 403


def test_an_argument_with_the_name_of_a_delivery_option_is_refused() -> None:
    @task("call")
    async def call(ctx: TaskContext, *, callback_url: str) -> None:
        """Call."""

    async def view(result: None) -> None:
        """Calls."""

    with pytest.raises(TypeError, match="its argument 'callback_url' has the name of a delivery option"):
        delivers(call)(view)


def test_a_plain_route_with_a_contract_is_a_coroutine() -> None:
    def shown() -> str:
        return "3"

    described = operation("Shelves", "Show", answers={200: Answer("The shelf", int)})
    with pytest.raises(TypeError, match="write shown as an async def"):
        described(shown)  # type: ignore[arg-type]
