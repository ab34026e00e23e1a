"""The service: our tasks, tables and routes, and the pool."""

from quart_async_api import App, Settings, create_app

from . import models, orders, parcels, stock
from .postage import open_postage


def make_app(settings: Settings | None = None) -> App:
    return create_app(
        settings,
        tutorial=False,
        title="Shop",
        version="0.1.0",
        info={
            "description": "Sells tea.",
            "contact": {"name": "The shop"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        tags={"Articles": "What the shop sells", "Orders": "Orders of customers", "Parcels": "The courier"},
        tasks=[orders, parcels, stock],
        resources=[open_postage],
        models=[models],
        blueprints=[orders.blueprint, parcels.blueprint, stock.blueprint],
    )
