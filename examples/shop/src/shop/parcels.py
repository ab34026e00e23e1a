"""GET /postage asks for the price of a parcel; the task `pack` makes one of an order."""

from typing import Annotated

from pydantic import Field
from quart import Blueprint
from typing_extensions import TypedDict

from quart_async_api import TaskContext, delivers, task

from .errors import NotDelivered
from .models import Order
from .postage import Postage

blueprint = Blueprint("parcels", __name__)

Country = Annotated[str, Field(pattern="^[A-Z]{2}$", description="Country of ISO 3166, such as SE")]


class Price(TypedDict):
    cents: int


class Parcel(TypedDict):
    order: int
    label: str


@task("postage")
async def postage(ctx: TaskContext, *, country: Country, grams: Annotated[int, Field(ge=1, le=100_000)]) -> Price:
    """The price of a parcel."""
    return {"cents": await cents(ctx, country, grams)}


@blueprint.get("/postage")
@delivers(postage, tag="Parcels", errors=(NotDelivered,))
async def price(result: Price) -> None:
    """The price of a parcel."""


@task("pack", retries=5, retryable=(OSError,))
async def pack(ctx: TaskContext, *, order: int) -> Parcel:
    """Pack an order. Packing it again makes the same parcel."""
    packed = await Order.get(id=order)
    lines = await packed.lines.order_by("id")
    for done, line in enumerate(lines, 1):
        await ctx.progress(done, len(lines), f"{line.count} {line.article_id}")
    label = f"{packed.country}{packed.id:08}"
    await Order.filter(id=order).update(parcel=label)
    return {"order": order, "label": label}


async def cents(ctx: TaskContext, country: str, grams: int) -> int:
    found = await ctx.resource(Postage).cents(country, grams)
    if found is None:
        raise NotDelivered(f"the courier takes no parcel of {grams} g to {country}")
    return found
