"""GET /comic."""

import pytest
from quart.testing import QuartClient

from quart_async_api.demo import StandIn
from tests.each import each

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def test_five_random_comics_by_default(client: QuartClient) -> None:
    answer = await (await client.get("/comic")).get_json()
    assert set(answer) == {"comics", "errors", "elapsed", "sequential_elapsed"}
    assert len({comic["num"] for comic in answer["comics"]}) == 5
    assert all(set(comic) == {"num", "title", "alt", "img", "url", "elapsed"} for comic in answer["comics"])
    assert answer["sequential_elapsed"] == pytest.approx(sum(comic["elapsed"] for comic in answer["comics"]))


async def test_the_comics_asked_for_come_in_their_order_once(client: QuartClient) -> None:
    answer = await (await client.get("/comic?num=614&num=1024&num=614&num=1")).get_json()
    assert [comic["num"] for comic in answer["comics"]] == [614, 1024, 1]


async def test_one_that_does_not_exist_is_an_entry_in_errors(client: QuartClient) -> None:
    answer = await (await client.get("/comic?num=404&num=1")).get_json()
    assert [comic["num"] for comic in answer["comics"]] == [1]
    assert [set(error) for error in answer["errors"]] == [{"num", "title", "detail"}]
    assert answer["errors"][0]["num"] == 404


async def test_all_failing_is_a_bad_gateway(client: QuartClient) -> None:
    response = await client.get("/comic?num=404&num=999999")
    assert response.status_code == 502
    assert response.mimetype == "application/problem+json"


async def test_all_are_fetched_at_once_or_one_after_another_on_wish(client: QuartClient, upstream: StandIn) -> None:
    await client.get("/comic?num=1&num=2&num=3&mode=sequential")
    assert upstream.most_at_once == 1
    await client.get("/comic?num=11&num=12&num=13&num=14")
    assert upstream.most_at_once == 4


@each("accept", [None, "*/*", "application/json", "text/html;q=0.5, application/json", "nonsense"])
async def test_a_program_gets_json(client: QuartClient, accept: str | None) -> None:
    response = await client.get("/comic?num=1", headers={"Accept": accept} if accept else {})
    assert response.mimetype == "application/json"


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "text/html, application/json;q=0.9"])
async def test_a_browser_gets_a_page_with_the_pictures_and_the_time(
    client: QuartClient, upstream: StandIn, accept: str
) -> None:
    response = await client.get("/comic?num=1&num=404", headers={"Accept": accept})
    page = await response.get_data(as_text=True)
    assert response.mimetype == "text/html"
    assert "Time taken: " in page
    assert f'src="{upstream.url}' in page
    assert upstream.url in response.headers["Content-Security-Policy"]


@each(
    ("query", "pointer"),
    [
        ("number=0", "#/number"),
        ("number=101", "#/number"),
        ("number=x", "#/number"),
        ("number=1&number=2", "#/number"),
        ("num=x", "#/num/0"),
        ("num=1&num=0", "#/num/1"),
        ("&".join(f"num={num}" for num in range(1, 102)), "#/num"),
        ("mode=quick", "#/mode"),
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_fetched(
    client: QuartClient, upstream: StandIn, query: str, pointer: str
) -> None:
    response = await client.get(f"/comic?{query}")
    assert response.status_code == 422
    assert [error["pointer"] for error in (await response.get_json())["errors"]] == [pointer]
    assert not upstream.calls
