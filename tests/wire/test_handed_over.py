"""Connections that HTTP/1.1 hands over to Hypercorn, without a network."""

import asyncio
from typing import Any

from quart_async_api.server.http1 import Connection
from quart_async_api.server.listeners import Server

from .http1_wire import Wire, alone


class Lost(Wire):
    """A connection whose socket is closed before Hypercorn's task begins."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self.is_over and name == "socket" else super().get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.is_over = True
        asyncio.get_running_loop().call_soon(protocol.connection_lost, None)


async def app(scope: Any, receive: Any, send: Any) -> None: ...


async def test_a_connection_that_is_lost_as_it_is_handed_over_failed_in_hypercorn() -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    server, wire = alone(app), Lost()
    connection = Connection(server)
    connection.connection_made(wire)
    Server.hand_over(server, connection, wire, b"")
    assert len(server.places) == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert (len(server.places), failures) == (0, [])
    server.close()
    wire.close()
