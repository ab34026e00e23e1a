"""What a customer may do wrong."""

from quart_async_api import ServiceError, problem


@problem(
    "no-such-article",
    404,
    "No such article",
    "The shop does not sell this article. `GET /articles` lists what it sells.",
)
class NoSuchArticle(ServiceError):
    """The shop does not sell this article."""


@problem(
    "out-of-stock",
    409,
    "Out of stock",
    "The shop has too few left. Order fewer, or wait until it is restocked at night.",
)
class OutOfStock(ServiceError):
    """The shop has too few left."""


@problem("no-such-order", 404, "No such order", "The shop has no order with this number.")
class NoSuchOrder(ServiceError):
    """The shop has no order with this number."""


@problem("not-delivered", 422, "Not delivered", "The courier takes no parcel of this weight to this country.")
class NotDelivered(ServiceError):
    """The courier takes no parcel of this weight to this country."""
