"""The articles: plain routes to read and to change them, and the task that fills the stock every night."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint
from tortoise.expressions import F

from quart_async_api import Answer, Scope, TaskContext, needs, operation, task

from .models import Article

blueprint = Blueprint("stock", __name__)

Sku = Annotated[str, Field(pattern="^[a-z0-9-]{1,20}$", examples=["sencha"])]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Named(BaseModel):
    sku: Sku


class Offer(BaseModel):
    """What the shop offers of an article: the price in cents, the weight in grams."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    # PostgreSQL stores no text with the character NUL.
    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00]*$", examples=["Sencha"])]
    price: Count
    weight: Annotated[int, Field(ge=1, le=100_000)]
    stock: Count
    full: Count


@blueprint.get("/articles")
async def articles() -> dict[str, object]:
    """A route without `@needs` is guarded: once there is a key, it needs one with the scope `read`."""
    return {
        "items": [
            {"sku": found.sku} | Offer.model_validate(found).model_dump()
            async for found in Article.all().order_by("sku")
        ]
    }


@blueprint.put("/articles/<sku>")
@needs(Scope.ADMIN, audited="articles.put")
@operation("Articles", "Add or change an article", path=Named, body=Offer, answers={200: Answer("The article", Offer)})
async def put_article(path: Named, body: Offer) -> Offer:
    await Article.update_or_create(body.model_dump(), sku=path.sku)
    return body


@task("restock", schedule="0 2 * * *")
async def restock(ctx: TaskContext) -> int:
    """Fill up the stock of each article, at two in the night."""
    return await Article.filter(stock__lt=F("full")).update(stock=F("full"))
