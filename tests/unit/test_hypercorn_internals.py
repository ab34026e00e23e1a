"""A tripwire for each private part of Hypercorn that `server/hypercorn_*.py` build on: look at ours again where one changed."""

import hashlib
import inspect
from typing import Any

import hypercorn.asyncio.run
import hypercorn.protocol
import pytest
import wsproto.connection
from hypercorn.asyncio import task_group, tcp_server, worker_context
from hypercorn.config import Config
from hypercorn.protocol import h2, h11, ws_stream

from quart_async_api.server.hypercorn_internals import _REPLACED, install

KNOWN: dict[Any, str] = {
    hypercorn.asyncio.run.worker_serve: "ae30269c42b95442",
    Config.create_ssl_context: "66241a00f5167198",
    hypercorn.protocol.ProtocolWrapper: "caf949187e9b4a81",
    h11.H11Protocol: "b32a61e0a8ca2127",
    h11.H11WSConnection: "33372cf689429978",
    h2.H2Protocol: "7257f8bafccaa2e5",
    h2.StreamBuffer: "bc347b7c78068613",
    task_group.TaskGroup: "1260b105c058872d",
    tcp_server.TCPServer: "3bfa72b319509f2b",
    worker_context.AsyncioSingleTask: "305fdb8a3c30b8a5",
    ws_stream.Handshake.__mro__[-2]: "701a154c29b5ab4c",
    ws_stream.WebsocketBuffer: "31c9b1345f308f4c",
    wsproto.connection.Connection: "6b70917fe888fb2c",
    ws_stream.WSStream: "67434c428a1a3c04",
}


@pytest.mark.parametrize("part", KNOWN, ids=lambda part: part.__qualname__)
def test_what_ours_builds_on_is_as_it_was(part: Any) -> None:
    assert hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16] == KNOWN[part]


@pytest.mark.parametrize(("module", "name", "ours"), _REPLACED, ids=lambda value: getattr(value, "__name__", value))
def test_each_of_ours_takes_the_place_of_its_own_base(module: Any, name: str, ours: type) -> None:
    assert ours.__mro__[1].__name__ == name
    install()
    assert getattr(module, name) is ours
