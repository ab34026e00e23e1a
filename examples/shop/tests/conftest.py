"""The app under test, with two articles."""

from collections.abc import Callable

import pytest
from quart.testing import QuartClient
from shop.app import make_app
from shop.models import Article

from quart_async_api import App, Settings
from quart_async_api.testing import ServiceUnderTest


@pytest.fixture
def qaa_make_app() -> Callable[[Settings], App]:
    """The app of the fixture `qaa_service`."""
    return make_app


@pytest.fixture
async def client(qaa_service: ServiceUnderTest) -> QuartClient:
    await Article.create(sku="sencha", name="Sencha", price=1200, weight=100, stock=3, full=10)
    await Article.create(sku="assam", name="Assam", price=900, weight=250, stock=40, full=40)
    return qaa_service.client
