"""HTTP/2 over TLS, and WebSockets, through Hypercorn with our classes in it: one client, or one stream, harms no other."""

import asyncio
import socket
import ssl
import tracemalloc
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
import trustme
import uvloop
from hypercorn.typing import Scope

from quart_async_api.server.hypercorn_internals import BoundedConfig, install
from quart_async_api.server.listeners import serve
from quart_async_api.wire.connections import Abortable, Connections
from quart_async_api.wire.proxies import TrustedProxies
from quart_async_api.wire.request_log import RequestLog

PATIENCE = 60.0
IDLE = 1.0  # seconds
LARGE = bytes(1_000_000)
Message = dict[str, Any]


class App:
    """Answers `/`; `/large` with 1 MB; `/upload` after its body; `/held` once `release` is set; `/broken` begins, and raises.

    A socket is accepted and its messages are counted; one for `/late` is never accepted.
    """

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.left = asyncio.Event()
        self.received = 0
        self.longest = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            if scope["path"] != "/late":
                await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                self.received += message["type"] == "websocket.receive"
            self.left.set()
        elif scope["type"] == "http":
            if scope["path"] == "/held":
                await self.release.wait()
            while scope["path"] == "/upload" and (message := await receive()).get("more_body"):
                self.longest = max(self.longest, len(message["body"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] == "/broken":
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise RuntimeError("broken")
            await send({"type": "http.response.body", "body": LARGE if scope["path"] == "/large" else b"whole"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    return file, context


@dataclass(frozen=True, slots=True)
class Ports:
    tls: int
    plain: int


class Watched(Connections):
    """Says when none is left."""

    def __init__(self, most: int = 100) -> None:
        super().__init__(most, most)
        self.empty = asyncio.Event()
        self.some = asyncio.Event()

    def add(self, transport: Abortable, address: str | None) -> bool:
        self.some.set()
        return super().add(transport, address)

    def discard(self, transport: Abortable) -> None:
        super().discard(transport)
        if not len(self):
            self.empty.set()


@pytest.fixture
def connections() -> Watched:
    return Watched()


@asynccontextmanager
async def served(
    app: App, tls: tuple[Path, ssl.SSLContext], connections: Connections, *, is_fast: bool = True
) -> AsyncIterator[Ports]:
    install()
    config = BoundedConfig()
    config.http1_is_fast = is_fast
    config.connections = connections
    config.bind, config.insecure_bind = ["127.0.0.1:0"], ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(tls[0])
    config.ssl_handshake_timeout, config.send_timeout = 3 * IDLE, IDLE  # a handshake takes a busy machine a second
    config.keep_alive_timeout, config.websocket_max_message_size, config.errorlog = IDLE, 1000, None
    sockets = config.create_sockets()
    numbers = [bound.getsockname()[1] for bound in (*sockets.secure_sockets, *sockets.insecure_sockets)]
    for bound in (*sockets.secure_sockets, *sockets.insecure_sockets):
        bound.listen()
    config.bind = [f"fd://{sockets.secure_sockets[0].detach()}"]
    config.insecure_bind = [f"fd://{sockets.insecure_sockets[0].detach()}"]
    stop = asyncio.Event()
    logged: Any = RequestLog(app, TrustedProxies(()), None)
    serving = asyncio.create_task(serve(logged, config, shutdown_trigger=stop.wait))
    yield Ports(*numbers)
    app.release.set()
    stop.set()
    await asyncio.wait_for(serving, PATIENCE)


@pytest.fixture
async def ports(app: App, tls: tuple[Path, ssl.SSLContext], connections: Watched) -> AsyncIterator[Ports]:
    async with served(app, tls, connections) as ports:
        yield ports


class Http2:
    """A client that remembers what came on each stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.wire = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.status: dict[int, int] = {}
        self.body: dict[int, bytes] = {}
        self.over: set[int] = set()
        self.reset: set[int] = set()
        self.wire.initiate_connection()
        self.size: Counter[int] = Counter()

    def get(self, stream: int, path: str | bytes = "/", method: str | bytes = "GET", *, ends: bool = True) -> None:
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.wire.send_headers(stream, head, end_stream=ends)

    async def flush(self) -> None:
        await self.send(self.wire.data_to_send())

    async def read(self) -> None:
        await self.flush()
        data = await asyncio.wait_for(self._reader.read(65536), PATIENCE)
        assert data, "the server closed the connection"
        for event in self.wire.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status[event.stream_id or 0] = int((event.headers or [])[0][1])
            elif isinstance(event, h2.events.DataReceived) and event.data:
                self.body[event.stream_id or 0] = event.data
                self.size[event.stream_id or 0] += len(event.data)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.over.add(event.stream_id or 0)
                if isinstance(event, h2.events.StreamReset):
                    self.reset.add(event.stream_id or 0)

    async def until(self, *streams: int) -> None:
        while not self.over.issuperset(streams):
            await self.read()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_closed(self) -> bytes:
        await self.flush()
        received = b""
        with suppress(ConnectionError):
            while data := await asyncio.wait_for(self._reader.read(65536), PATIENCE):
                received += data
        return received


@asynccontextmanager
async def secure(ports: Ports, tls: tuple[Path, ssl.SSLContext]) -> AsyncIterator[Http2]:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports.tls, ssl=tls[1], server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    yield Http2(reader, writer)
    writer.transport.abort()


@pytest.fixture
async def client(ports: Ports, tls: tuple[Path, ssl.SSLContext]) -> AsyncIterator[Http2]:
    async with secure(ports, tls) as client:
        yield client


# TLS


def is_closed(link: socket.socket) -> bool:
    """Whether the server closes it without a word, sooner or later."""
    link.settimeout(PATIENCE)
    try:
        return not link.recv(1)
    except ConnectionError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_one_client_in_its_handshakes_took_all_connections(
    tls: tuple[Path, ssl.SSLContext], run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def others_are_served(port: int) -> None:
        opened = asyncio.open_connection(
            "127.0.0.1", port, ssl=tls[1], server_hostname="localhost", local_addr=("127.0.0.2", 0)
        )
        reader, writer = await asyncio.wait_for(opened, PATIENCE)
        client = Http2(reader, writer)
        client.get(1)
        await client.until(1)
        assert client.body == {1: b"whole"}
        writer.transport.abort()

    async def attack() -> None:
        connections = Watched(12)  # at most 6 of one address
        async with served(App(), tls, connections) as ports:
            with ExitStack() as stack:
                links = []
                for number in range(20):
                    links.append(stack.enter_context(socket.create_connection(("127.0.0.1", ports.tls))))
                    links[-1].sendall(b"\x16\x03\x01\x02\x00"[: 5 * (number % 2)])  # nothing, or half a record
                assert all(await asyncio.gather(*(asyncio.to_thread(is_closed, link) for link in links[6:])))
                assert len(connections) == 6
                await others_are_served(ports.tls)
                assert all(await asyncio.gather(*(asyncio.to_thread(is_closed, link) for link in links[:6])))
            async with asyncio.timeout(PATIENCE):
                while len(connections):
                    connections.empty.clear()
                    await connections.empty.wait()
            await others_are_served(ports.tls)

    run(attack())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("steps", range(4))
def test_a_handshake_that_is_cut_off_holds_neither_its_place_nor_the_stop(
    tls: tuple[Path, ssl.SSLContext], run: Callable[[Coroutine[Any, Any, None]], None], steps: int
) -> None:
    async def stop() -> None:
        connections = Watched()
        with socket.socket() as link:
            async with served(App(), tls, connections) as ports:
                link.connect(("127.0.0.1", ports.tls))
                await asyncio.wait_for(connections.some.wait(), PATIENCE)
                for _ in range(steps):
                    await asyncio.sleep(0)
                connections.abort()
            assert not len(connections)
            assert await asyncio.to_thread(is_closed, link)

    run(stop())


@pytest.mark.slow
def test_a_client_that_does_not_answer_the_end_of_tls_kept_its_place_and_filled_the_log(
    tls: tuple[Path, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        connections = Watched()
        async with served(App(), tls, connections) as ports:
            with ExitStack() as stack:
                for sent in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"nothing of HTTP/2"):
                    link = stack.enter_context(socket.create_connection(("127.0.0.1", ports.tls)))
                    wrapped = tls[1].wrap_socket(link, server_hostname="localhost", do_handshake_on_connect=False)
                    stack.enter_context(wrapped)
                    await asyncio.to_thread(wrapped.do_handshake)
                    wrapped.sendall(sent)
                await asyncio.wait_for(connections.some.wait(), PATIENCE)
                while len(connections):
                    connections.empty.clear()
                    await asyncio.wait_for(connections.empty.wait(), 25.0)  # of 30 s that asyncio waits

    uvloop.run(leave())
    assert not caplog.records


# Time


async def test_a_preface_alone_is_closed_in_the_time_of_a_head(client: Http2) -> None:
    await client.until_closed()


async def test_a_head_without_an_end_is_closed_in_the_time_of_a_head(client: Http2) -> None:
    client.get(1)
    sent = bytearray(client.wire.data_to_send())
    headers = sent.rindex(b"\x01\x05\x00\x00\x00\x01")  # HEADERS, END_STREAM and END_HEADERS, stream 1
    sent[headers + 1] = 0x01
    await client.send(bytes(sent))
    await client.until_closed()


async def test_a_connection_whose_streams_were_all_reset_is_idle_and_closed(client: Http2) -> None:
    client.get(1, "/held")
    client.get(3)
    await client.until(3)
    client.wire.reset_stream(1)
    await client.until_closed()


async def test_a_connection_with_an_open_stream_is_not_idle(client: Http2, app: App) -> None:
    client.get(1, "/held")
    client.get(3)
    await client.until(3)
    await asyncio.sleep(1.5 * IDLE)  # nothing is to happen
    app.release.set()
    await client.until(1)
    assert client.status[1] == 200


# One stream


@pytest.mark.parametrize(
    ("path", "method"), [(b"/\xff", "GET"), (b"/?a=\xff", "GET"), ("/", b"G\xffT"), ("", "CONNECT")]
)
async def test_a_request_that_cannot_be_read_is_bad_and_harms_no_other_stream(
    client: Http2, app: App, path: bytes | str, method: bytes | str
) -> None:
    client.get(1, "/held")
    if path == "":  # CONNECT has none
        client.wire.send_headers(3, [(":method", "CONNECT"), (":authority", "localhost")], end_stream=True)
    else:
        client.get(3, path, method)
    await client.until(3)
    assert client.status[3] == 400
    app.release.set()
    client.get(5)
    await client.until(1, 5)
    assert (client.status[1], client.status[5], client.body[1]) == (200, 200, b"whole")


async def test_an_authority_that_is_no_host_is_bad_and_harms_no_other_stream(client: Http2) -> None:
    for stream, authority in ((1, "a..b"), (3, "localhost:99999"), (5, "[::1]evil.com"), (7, "user@localhost")):
        head = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", authority)]
        client.wire.send_headers(stream, head, end_stream=True)
    client.get(9)
    await client.until(1, 3, 5, 7, 9)
    assert [client.status[stream] for stream in (1, 3, 5, 7, 9)] == [400, 400, 400, 400, 200]


async def test_an_answer_that_breaks_off_is_a_reset_of_its_stream_alone(client: Http2, app: App) -> None:
    client.get(1, "/held")
    client.get(3, "/broken")
    await client.until(3)
    assert client.reset == {3}
    app.release.set()
    await client.until(1)
    assert client.body[1] == b"whole"


async def test_a_body_that_comes_after_its_answer_harms_no_other_stream(client: Http2, app: App) -> None:
    client.get(1, "/held")
    client.get(3, method="POST", ends=False)
    await client.until(3)
    for _ in range(3):
        client.wire.send_data(3, b"a" * client.wire.max_outbound_frame_size)
    while client.wire.outbound_flow_control_window < client.wire.max_outbound_frame_size * 2:
        await client.read()  # until the window of all streams is given back
    app.release.set()
    client.get(5)
    await client.until(1, 5)
    assert (client.status[1], client.status[5]) == (200, 200)


# Windows


@pytest.mark.slow
async def test_a_window_that_stays_closed_held_its_streams_and_their_answers_for_ever(
    client: Http2, connections: Watched
) -> None:
    client.wire.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    streams = range(1, 201, 2)
    for stream in streams:
        client.get(stream, "/large")
    tracemalloc.start()
    try:
        await client.until(*streams)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert client.reset == set(streams)
    assert most < len(streams) * len(LARGE) / 10
    await client.until_closed()
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)


async def test_a_client_that_reads_slowly_is_not_taken_for_one_that_does_not_read(client: Http2) -> None:
    client.wire.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.get(1, "/large")
    client.get(3, "/large")
    while not client.over:
        client.wire.increment_flow_control_window(100, 1)
        await client.read()
        await asyncio.sleep(IDLE / 10)
    assert client.over == {3}
    client.wire.increment_flow_control_window(len(LARGE), 1)
    client.wire.increment_flow_control_window(len(LARGE))
    await client.until(1)
    assert client.size[1] == len(LARGE)


# Floods

REQUEST = bytes((0x82, 0x87, 0x84, 0x41, 9)) + b"localhost"  # GET https /, in HPACK
BAD_REQUEST = bytes((0x82, 0x87, 0x44, 2)) + b"/\xff" + REQUEST[3:]
STREAMS = range(1, 20_000, 2)


def h2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def goaway(received: bytes) -> int | None:
    """The error code of the frame that ends a connection."""
    at = 0
    while at < len(received):
        if received[at + 3] == 7:
            return int.from_bytes(received[at + 13 : at + 17], "big")
        at += 9 + int.from_bytes(received[at : at + 3], "big")
    return None


OPEN = h2_frame(1, 4, 1, bytes((0x83, 0x87, 0x44, 7)) + b"/upload" + REQUEST[3:])  # POST


def floods() -> dict[str, bytes]:
    return {
        "empty DATA": OPEN + h2_frame(0, 0, 1) * 10_000,
        "small DATA": OPEN + h2_frame(0, 0, 1, b"a") * 10_000,
        "HEADERS that cannot be read": b"".join(h2_frame(1, 5, stream, BAD_REQUEST) for stream in STREAMS),
        "PRIORITY": b"".join(h2_frame(2, 0, stream, bytes(5)) for stream in STREAMS),
        "RST_STREAM": b"".join(
            h2_frame(1, 5, stream, REQUEST) + h2_frame(3, 0, stream, bytes(4)) for stream in STREAMS
        ),
        "HEADERS of a reset stream": OPEN + h2_frame(3, 0, 1, bytes(4)) + h2_frame(1, 4, 1, REQUEST) * 10_000,
        "SETTINGS": h2_frame(4, 0, 0) * 10_000,
        "large SETTINGS": h2_frame(4, 0, 0, bytes((0, 4, 0, 0, 255, 255)) * 2000) * 10,
        "PUSH_PROMISE": h2_frame(5, 4, 1, bytes(4) + REQUEST) * 10_000,
        "PING": h2_frame(6, 0, 0, bytes(8)) * 10_000,
        "GOAWAY": h2_frame(7, 0, 0, bytes(8)) * 10_000,
        "WINDOW_UPDATE": h2_frame(8, 0, 0, bytes((0, 0, 0, 1))) * 10_000,
        "CONTINUATION": h2_frame(1, 0, 1, REQUEST) + h2_frame(9, 0, 1) * 10_000,
        "CONTINUATION of many streams": b"".join(
            h2_frame(1, 1, stream, REQUEST) + h2_frame(9, 0, stream) * 20 + h2_frame(9, 4, stream) for stream in STREAMS
        ),
        "ALTSVC": h2_frame(10, 0, 0, bytes((0, 1)) + b"aa") * 10_000,
        "unknown": h2_frame(200, 0, 0) * 10_000,
    }


# Of which the first ones are an error already, or an end.
FORBIDDEN = {
    "HEADERS that cannot be read",
    "HEADERS of a reset stream",
    "PUSH_PROMISE",
    "GOAWAY",
    "CONTINUATION",
    "CONTINUATION of many streams",
}


async def test_frames_without_a_request_held_the_process_and_filled_its_log(
    ports: Ports, tls: tuple[Path, ssl.SSLContext], connections: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def flood(name: str, frames: bytes) -> None:
        async with secure(ports, tls) as client:
            await client.flush()
            with suppress(ConnectionError):
                await client.send(frames)
            received = await client.until_closed()
            closed = {h2.errors.ErrorCodes.ENHANCE_YOUR_CALM}
            if name == "RST_STREAM":  # a busy machine may have answered as many of them as a connection may ask
                closed.add(h2.errors.ErrorCodes.NO_ERROR)
            assert goaway(received) in closed or name in FORBIDDEN, name

    sent = floods()
    await asyncio.gather(*(flood(name, frames) for name, frames in sent.items()))
    assert len(caplog.records) <= 2 * len(sent)
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)


@pytest.mark.slow
async def test_a_client_that_asks_for_much_may_send_as_many_frames_as_that_takes(client: Http2) -> None:
    stream = 1
    for _ in range(18):
        posts = range(stream, stream + 100, 2)
        for post in posts:
            client.get(post, method="POST", ends=False)
            client.wire.send_data(post, b"small")
            client.wire.send_data(post, b"", end_stream=True)
        await client.until(*posts)
        assert {client.status[post] for post in posts} == {200}
        stream += 100
    for _ in range(10):
        client.get(stream, "/large")
        while stream not in client.over:  # two updates for each frame, as some clients send
            before = client.size[stream]
            await client.read()
            if stream not in client.over and (read := client.size[stream] - before):
                client.wire.increment_flow_control_window(read, stream)
                client.wire.increment_flow_control_window(read)
        assert client.size[stream] == len(LARGE)
        stream += 2


# HTTP/1 and WebSockets

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyEhIQ==\r\n"
)


@asynccontextmanager
async def plain(ports: Ports, sent: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports.plain)
    writer.write(sent)
    yield reader, writer
    writer.transport.abort()


async def until_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), PATIENCE)


async def test_no_compression_is_agreed_to_and_a_compressed_message_ends_the_socket(ports: Ports, app: App) -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    async with plain(ports, UPGRADE + offer) as (reader, writer):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head.lower()
        bomb = zlib.compress(b"a" * 10_000)[2:-4]
        writer.write(bytes((0xC1, 0x80 | len(bomb), 0, 0, 0, 0)) + bomb)
        await until_end(reader)
    await asyncio.wait_for(app.left.wait(), PATIENCE)
    assert app.received == 0


@pytest.mark.slow
async def test_after_a_message_that_is_too_long_the_app_is_left_and_nothing_is_kept(ports: Ports, app: App) -> None:
    endless = bytes((0x00, 0x80 | 127)) + (1 << 40).to_bytes(8, "big") + bytes(4)
    async with plain(ports, UPGRADE + b"\r\n") as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.write(bytes((0x01, 0x80 | 126, 4, 0, 0, 0, 0, 0)) + b"a" * 1024)
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE) == bytes((0x88, 2)) + (1009).to_bytes(2, "big")
        await asyncio.wait_for(app.left.wait(), PATIENCE)
        writer.write(endless)
        for _ in range(20):
            writer.write(bytes(60_000))
            await writer.drain()
        assert await until_end(reader) == b""
    assert app.received == 0


def frame(opcode: int, *, is_last: bool = True) -> bytes:
    return bytes((is_last << 7 | opcode, 0x80, 0, 0, 0, 0))


@pytest.mark.slow
async def test_one_websocket_that_sends_frames_without_a_message_stopped_the_process(
    ports: Ports, connections: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def flood(first: bytes, repeated: bytes) -> None:
        async with plain(ports, UPGRADE + b"\r\n") as (reader, writer):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            writer.write(first + repeated * 50_000)
            answer = await until_end(reader)
            assert answer.endswith(bytes((0x88, 2)) + (1008).to_bytes(2, "big"))
            assert answer.count(b"\x8a\x00") < 1000  # pongs

    part = frame(0, is_last=False)
    await asyncio.gather(flood(b"", frame(9)), flood(b"", frame(10)), flood(frame(1, is_last=False), part))
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)
    assert len(caplog.records) == 3


async def test_pings_and_fragments_of_a_client_that_floods_nobody_are_answered(ports: Ports, app: App) -> None:
    fragments = frame(1, is_last=False) + frame(0, is_last=False) * 98 + frame(0)
    async with plain(ports, UPGRADE + b"\r\n") as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.write(frame(9) * 100 + fragments + frame(9))
        assert await asyncio.wait_for(reader.readexactly(202), PATIENCE) == b"\x8a\x00" * 101
    await asyncio.wait_for(app.left.wait(), PATIENCE)
    assert app.received == 1


async def test_one_read_of_64_kilobytes_held_all_others_until_it_was_handled(
    tls: tuple[Path, ssl.SSLContext], app: App
) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 60000\r\n\r\n"
    serving = served(app, tls, Watched(), is_fast=False)
    async with serving as ports, plain(ports, head + bytes(60_000)) as (reader, _):
        assert b"whole" in await until_end(reader)
    assert 0 < app.longest <= 4096


@pytest.mark.parametrize("field", [b"Sec-WebSocket-Protocol: \xff", b"Sec-WebSocket-Extensions: \xff, upgrade"])
async def test_a_handshake_with_bytes_past_ascii_is_bad_and_no_fault(ports: Ports, field: bytes) -> None:
    async with plain(ports, UPGRADE + field + b"\r\n\r\n") as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("good", "bad"),
    [(b"Version: 13", b"Version: 8"), (b"Sec-WebSocket-Key", b"No-Key")],
)
async def test_a_handshake_that_is_none_held_its_connection_for_ever(
    ports: Ports, connections: Watched, good: bytes, bad: bytes
) -> None:
    async with plain(ports, UPGRADE.replace(good, bad) + b"\r\n") as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 400 ")
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)


@pytest.mark.parametrize(
    "sent", [UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), UPGRADE + b"Connection: \xff, upgrade\r\n"]
)
async def test_an_upgrade_that_cannot_be_is_ignored(ports: Ports, connections: Watched, sent: bytes) -> None:
    async with plain(ports, sent + b"Connection: close\r\n\r\n") as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 200 ")
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)


async def test_data_before_the_answer_to_a_handshake_held_the_connection_and_the_app_for_ever(
    ports: Ports, app: App, connections: Watched
) -> None:
    async with plain(ports, UPGRADE.replace(b"GET /", b"GET /late") + b"\r\nearly") as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 400 ")
    await asyncio.wait_for(app.left.wait(), PATIENCE)
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)


async def test_a_request_of_two_lengths_was_read_by_one_of_them_and_another_request_after_it(ports: Ports) -> None:
    two = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with plain(ports, two + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
        answer = await until_end(reader)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


async def test_http_2_without_tls_is_not_spoken(ports: Ports) -> None:
    async with plain(ports, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 505 ")
    upgrade = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
    async with plain(ports, upgrade + b"HTTP2-Settings: AAMAAABk\r\n\r\n") as (reader, _):
        assert (await until_end(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_has_closed_leaves_its_place_at_once(ports: Ports, connections: Watched) -> None:
    async with plain(ports, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b"whole"), PATIENCE)
        assert len(connections) == 1
        writer.write_eof()
        await until_end(reader)
    await asyncio.wait_for(connections.empty.wait(), PATIENCE)
