"""An app with a task for each thing that the plugin does."""

from quart import Blueprint

from quart_async_api import App, Backoff, Settings, TaskContext, create_app, delivers, task
from tests.shop.models import Order

blueprint = Blueprint("shop", __name__)


class Courier:
    def __init__(self) -> None:
        self.failures = 0


@task("pack")
async def pack(ctx: TaskContext, *, order: int, gift: bool = False) -> str:
    """Pack an order."""
    await ctx.progress(1, 2, "wrapped")
    await ctx.log(f"packed {order}")
    await Order.filter(id=order).update(paid=True)
    return f"parcel {order}"


@task("ship", retries=2, backoff=Backoff(60, 1), retryable=(ConnectionError,))
async def ship(ctx: TaskContext, *, parcel: str) -> int:
    """Ship a parcel with a courier who is not there at first."""
    courier = ctx.resource(Courier)
    if courier.failures:
        courier.failures -= 1
        raise ConnectionError("no courier")
    return ctx.attempt


@task("take-stock", schedule="0 2 * * *")
async def take_stock(ctx: TaskContext) -> None:
    """Count what is there, at two in the night."""


@blueprint.get("/parcels/<int:order>")
@delivers(pack)
async def parcel(result: str) -> None:
    """The parcel of an order."""


def make_app(settings: Settings) -> App:
    app = create_app(
        settings, tutorial=False, tasks=[pack, ship, take_stock], models=["tests.shop.models"], blueprints=[blueprint]
    )
    app.resources[Courier] = Courier()
    return app
