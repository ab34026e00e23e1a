"""Clients of an app in the same process, which call a function after each request."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
from quart.testing import QuartClient

from ..app import App


class InProcessClient(QuartClient):
    """Quart's, which calls `after` each request."""

    def __init__(self, app: App, after: Callable[[], Awaitable[object]]) -> None:
        super().__init__(app)
        self._after = after

    async def open(self, *args: Any, **options: Any) -> Any:
        response = await super().open(*args, **options)
        await self._after()
        return response


class InProcessTransport(httpx.ASGITransport):
    """The same for the Python client. It returns a response when it is complete."""

    def __init__(self, app: App, after: Callable[[], Awaitable[object]]) -> None:
        super().__init__(cast("Any", app))
        self._after = after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        await self._after()
        return response
