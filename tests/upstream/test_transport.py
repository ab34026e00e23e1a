"""The transport behaves as httpx's own, seen from the caller."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest
from aiohttp import web

from quart_async_api.upstream.transport import AiohttpTransport

from .faults import Fault, FaultyStandIn, document

NOTHING_LISTENS = "http://127.0.0.1:9/"


@pytest.fixture
async def plain() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=20, trust_env=False) as client:
        yield client


async def raised(client: httpx.AsyncClient, url: str, method: str = "GET") -> type[httpx.RequestError]:
    with pytest.raises(httpx.RequestError) as raised:
        await client.request(method, url)
    assert raised.value.request.url == url
    return raised.type


@pytest.mark.parametrize(
    "fault",
    [
        Fault.HANG,
        Fault.HANG_IN_BODY,
        Fault.DISCONNECT,
        Fault.PARTIAL_BODY,
        Fault.PARTIAL_CHUNKED,
        Fault.NOT_HTTP,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_fault_raises_the_class_that_httpx_raises(
    plain: httpx.AsyncClient, world: FaultyStandIn, fault: Fault, method: str
) -> None:
    world.faults["/api"] = fault
    plain.timeout = httpx.Timeout(20, read=0.1 if fault in (Fault.HANG, Fault.HANG_IN_BODY) else 20)
    async with httpx.AsyncClient(timeout=plain.timeout, trust_env=False) as own:
        assert await raised(plain, world.external_api_url, method) is await raised(own, world.external_api_url, method)


@pytest.mark.parametrize("url", [NOTHING_LISTENS, "http://nowhere.invalid/", "ftp://127.0.0.1/", "/relative"])
async def test_an_address_that_is_none_raises_the_class_that_httpx_raises(plain: httpx.AsyncClient, url: str) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as own:
        assert await raised(plain, url) is await raised(own, url)


async def test_the_url_arrives_as_it_was_written(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    await plain.get(f"{world.url}/a%7Eb/%2f~;x?q=%7e&r=a+b%20c")
    assert world.seen[0].raw_path == "/a%7Eb/%2f~;x?q=%7e&r=a+b%20c"


async def test_credentials_in_the_url_become_one_header(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    await plain.get(f"http://user:p%40ss@127.0.0.1:{world.port}/api")
    assert world.seen[0].headers.getall("Authorization") == [aiohttp.encode_basic_auth("user", "p@ss")]


async def test_bodies_are_streamed_both_ways(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    held = asyncio.Event()

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await held.wait()
        await response.write(b"second")
        return response

    world.faults["/api"] = echo
    async with plain.stream("POST", world.external_api_url, content=pieces()) as response:
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"first"
        held.set()
        assert await anext(chunks) == b"second"
    assert world.bodies == [b"one two"]
    assert world.seen[0].headers.getall("Transfer-Encoding") == ["chunked"]


async def test_a_multipart_form_arrives(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    await plain.post(world.external_api_url, files={"file": ("a.txt", b"content")}, data={"k": "v"})
    assert b'filename="a.txt"' in world.bodies[0]
    assert b"content" in world.bodies[0]


async def test_no_header_is_added_to_those_of_httpx(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    async with httpx.AsyncClient(trust_env=False) as own:
        for client in (plain, own):
            await client.post(world.external_api_url, content=b"x")
    assert dict(world.seen[0].headers) == dict(world.seen[1].headers)


async def test_a_line_break_in_a_header_is_refused(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        await plain.get(world.external_api_url, headers={"X-Note": "a\r\nX-Other: b"})


async def test_no_cookie_is_kept_below_httpx(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = document(1, Set_Cookie="sid=secret; Path=/")
    await plain.get(world.external_api_url)
    plain.cookies.clear()
    await plain.get(world.external_api_url)
    assert "Cookie" not in world.seen[1].headers


async def test_a_compressed_body_is_left_to_httpx(plain: httpx.AsyncClient, world: FaultyStandIn) -> None:
    async def compressed(request: web.Request) -> web.StreamResponse:
        response = web.json_response({"a": 1})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    world.faults["/api"] = compressed
    response = await plain.get(world.external_api_url)
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.json() == {"a": 1}


async def test_a_socket_factory_can_refuse_an_address(world: FaultyStandIn) -> None:
    asked: list[object] = []

    def refuse(address: aiohttp.AddrInfoType) -> socket.socket:
        asked.append(address[4])
        raise OSError("the address is not allowed")

    async with httpx.AsyncClient(transport=AiohttpTransport(socket_factory=refuse), trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(world.external_api_url)
    assert asked == [("127.0.0.1", world.port)]
    assert not world.calls


async def test_a_closed_transport_stays_closed(world: FaultyStandIn) -> None:
    transport = AiohttpTransport()
    await transport.aclose()
    with pytest.raises(RuntimeError):
        await transport.handle_async_request(httpx.Request("GET", world.url))
