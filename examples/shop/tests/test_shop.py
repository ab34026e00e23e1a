"""The shop as its customers meet it. Jobs run when a test says so, and the clock stands still."""

import asyncio
from typing import Any

import pytest
from quart.testing import QuartClient
from shop.models import Article, Order
from shop.orders import Wanted, order
from shop.parcels import pack
from shop.postage import open_postage
from shop.stock import restock

from quart_async_api.testing import FakeContext, ServiceUnderTest

ORDER: dict[str, Any] = {"country": "SE", "lines": [{"article": "sencha", "count": 2}, {"article": "assam"}]}


async def stock_of(sku: str) -> int:
    return (await Article.get(sku=sku)).stock


async def test_an_order_is_placed_and_packed(qaa_service: ServiceUnderTest, client: QuartClient) -> None:
    response = await client.post("/customers/7/orders", json=ORDER)
    assert await response.get_json() == {"order": 1, "price": 2 * 1200 + 900 + 390}
    packing = qaa_service.assert_enqueued(pack, order=1)
    assert (await stock_of("sencha"), await stock_of("assam")) == (1, 39)
    [job] = await qaa_service.drain()
    assert (job.id, job.result) == (packing.id, {"order": 1, "label": "SE00000001"})
    shown = await (await client.get("/orders/1")).get_json()
    assert (shown["parcel"], shown["packing"]) == ("SE00000001", f"/jobs/{job.id}")


async def test_an_order_of_which_one_article_is_sold_out_leaves_nothing(
    qaa_service: ServiceUnderTest, client: QuartClient
) -> None:
    lines = [{"article": "assam"}, {"article": "sencha", "count": 4}]
    response = await client.post("/customers/7/orders", json=ORDER | {"lines": lines})
    assert response.status_code == 409
    assert (await response.get_json())["type"] == "/problems/out-of-stock"
    assert (await stock_of("assam"), await Order.all().count()) == (40, 0)
    qaa_service.refute_enqueued(pack)


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"lines": [{"article": "coffee"}]}, 404, "/problems/no-such-article"),
        ({"country": "AQ"}, 422, "/problems/not-delivered"),
        ({"lines": []}, 422, "/problems/invalid-input"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_reason(
    client: QuartClient, change: dict[str, object], status: int, problem: str
) -> None:
    response = await client.post("/customers/7/orders", json=ORDER | change)
    assert (response.status_code, (await response.get_json())["type"]) == (status, problem)


async def test_an_order_whose_process_dies_after_its_commit_is_placed_once(
    qaa_service: ServiceUnderTest, client: QuartClient
) -> None:
    response = await client.post("/customers/7/orders", json=ORDER, headers={"Prefer": "respond-async"})
    job = await response.get_json()
    [first, _] = await qaa_service.drain()
    async with open_postage() as pool:
        ctx = FakeContext(job_id=job["id"], attempt=2, resources=[pool])
        lines = [Wanted.model_validate(line) for line in ORDER["lines"]]
        assert await order(ctx, customer=7, country="SE", lines=lines) == first.result
    assert (await stock_of("sencha"), await Order.all().count()) == (1, 1)
    assert [job.task for job in qaa_service.enqueued] == ["order", "pack"]


async def test_the_customer_is_called_back(qaa_service: ServiceUnderTest, client: QuartClient) -> None:
    inbox = await qaa_service.open_inbox()
    await client.post(f"/customers/7/orders?callback_url={inbox.url}", json=ORDER)
    await qaa_service.drain()
    received = await inbox.next()
    assert (received.type, received.job.result) == ("job.succeeded", {"order": 1, "price": 3690})


async def test_the_stock_is_filled_every_night(qaa_service: ServiceUnderTest, client: QuartClient) -> None:
    await qaa_service.advance(days=1)
    [job] = await qaa_service.drain()
    assert (job.task, job.result, await stock_of("sencha")) == (restock.name, 1, 10)


async def test_articles_are_changed_with_a_key_of_an_admin_alone(
    qaa_service: ServiceUnderTest, client: QuartClient
) -> None:
    admin = {"Authorization": f"Bearer {await qaa_service.new_key('admin')}"}
    reader = {"Authorization": f"Bearer {await qaa_service.new_key('read')}"}
    offer = {"name": "Matcha", "price": 2500, "weight": 30, "stock": 5, "full": 5}
    assert (await client.put("/articles/matcha", json=offer, headers=reader)).status_code == 403
    for wrong in ({"stock": -1}, {"name": "\0"}):
        assert (await client.put("/articles/matcha", json=offer | wrong, headers=admin)).status_code == 422
    assert (await client.put("/articles/matcha", json=offer, headers=admin)).status_code == 200
    assert (await client.get("/articles")).status_code == 401
    listed = await (await client.get("/articles", headers=reader)).get_json()
    assert {"sku": "matcha"} | offer in listed["items"]


async def test_the_courier_s_price_has_many_callers_at_once(client: QuartClient) -> None:
    async def asked(grams: int) -> int:
        return int((await (await client.get(f"/postage?country=SE&grams={grams}")).get_json())["cents"])

    assert await asyncio.gather(*map(asked, [100, 1000, 5000, 100])) == [390, 690, 1490, 390]


async def test_packing_says_how_far_it_is(qaa_service: ServiceUnderTest, client: QuartClient) -> None:
    await client.post("/customers/7/orders", json=ORDER)
    ctx = FakeContext()
    assert await pack(ctx, order=1) == {"order": 1, "label": "SE00000001"}
    assert [progress.message for progress in ctx.reported] == ["2 sencha", "1 assam"]
