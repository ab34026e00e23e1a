"""POST /customers/{customer}/orders places an order, GET /orders/{number} shows it."""

from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint
from tortoise.expressions import F
from typing_extensions import TypedDict

from quart_async_api import Answer, DatabaseUnavailable, TaskContext, delivers, operation, submit, task, transaction

from .errors import NoSuchArticle, NoSuchOrder, NotDelivered, OutOfStock
from .models import Article, Line, Order
from .parcels import Country, cents, pack
from .stock import Sku

blueprint = Blueprint("orders", __name__)


class Wanted(BaseModel):
    article: Sku
    count: Annotated[int, Field(ge=1, le=100)] = 1


class Numbered(BaseModel):
    number: Annotated[int, Field(ge=1, le=2**63 - 1)]


class Placed(TypedDict):
    """`price` is in cents, with postage."""

    order: int
    price: int


@task("order", retries=5, retryable=(DatabaseUnavailable,))
async def order(
    ctx: TaskContext,
    *,
    customer: Annotated[int, Field(ge=1, le=2**63 - 1)],
    country: Country,
    lines: Annotated[list[Wanted], Field(min_length=1, max_length=20)],
) -> Placed:
    """Order articles: take them from the stock, and have them packed."""
    known = await Article.in_bulk({line.article for line in lines}, "sku")
    for line in lines:
        if line.article not in known:
            raise NoSuchArticle(f"the shop does not sell {line.article!r}")
    weight = sum(known[line.article].weight * line.count for line in lines)
    price = sum(known[line.article].price * line.count for line in lines) + await cents(ctx, country, weight)
    # The process may have died after the commit: then this is the second attempt of a job that has placed its order.
    placed = await Order.get_or_none(run=ctx.job_id)
    if placed is None:
        async with transaction() as tx:
            placed = await Order.create(run=ctx.job_id, customer=customer, country=country, price=price, weight=weight)
            await Line.bulk_create(Line(order=placed, article_id=line.article, count=line.count) for line in lines)
            placed.packing = (await submit(pack, {"order": placed.id}, in_transaction=tx)).id
            await placed.save(update_fields=["packing"])
            # Last, because other orders wait for these rows; in one sequence, so that none waits for this one meanwhile.
            for line in sorted(lines, key=lambda line: line.article):
                await take(line)
    return {"order": placed.id, "price": placed.price}


async def take(line: Wanted) -> None:
    left = Article.filter(sku=line.article, stock__gte=line.count)
    if not await left.update(stock=F("stock") - line.count):
        raise OutOfStock(f"fewer than {line.count} {line.article!r} are left")


@blueprint.post("/customers/<int:customer>/orders")
@delivers(order, tag="Orders", errors=(NoSuchArticle, OutOfStock, NotDelivered))
async def place(result: Placed) -> None:
    """Order articles for a customer."""


class Shown(Placed):
    """`parcel` is the label of the parcel, None until it is packed; `packing` is the job."""

    parcel: str | None
    packing: str | None


@blueprint.get("/orders/<number>")
@operation("Orders", "Show an order", path=Numbered, answers={200: Answer("The order", Shown)}, errors=(NoSuchOrder,))
async def show(path: Numbered) -> Shown:
    found = await Order.get_or_none(id=path.number)
    if found is None:
        raise NoSuchOrder(f"the shop has no order {path.number}")
    return {"order": found.id, "price": found.price, "parcel": found.parcel, "packing": f"/jobs/{found.packing}"}
