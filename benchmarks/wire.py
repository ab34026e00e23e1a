"""A relay in front of PostgreSQL that counts what clients ask it, by the messages of its protocol (version 3)."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

SOCKET = ".s.PGSQL.5432"  # in a folder, which is the host of a URL


@dataclass
class Counted:
    """`statements`: those that begin and end a transaction included. `round_trips`: answers that a client waits for."""

    statements: int = 0
    round_trips: int = 0
    octets: int = 0  # in both directions


@contextlib.contextmanager
def relay(folder: Path, server: Path) -> Iterator[Counted]:
    """Listen in `folder`, and pass all on to the socket in the folder `server`. The counts grow meanwhile."""
    counted = Counted()
    listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with asyncio.TaskGroup() as connections:
            stop = asyncio.Event()

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.create_task(_pass_on(reader, writer, server, counted))

            async with await asyncio.start_unix_server(accept, str(folder / SOCKET)):
                listening.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop = listening.result()
    try:
        yield counted
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()  # once all connections are closed


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Path, counted: Counted) -> None:
    there, onward = await asyncio.open_unix_connection(str(server / SOCKET))

    def asked(kinds: bytes) -> None:
        counted.statements += kinds.count(b"Q") + kinds.count(b"E")

    def answered(kinds: bytes) -> None:
        counted.round_trips += kinds.count(b"Z")

    await asyncio.gather(
        _copy(reader, onward, kinds(is_client=True), asked, counted),
        _copy(there, writer, kinds(is_client=False), answered, counted),
    )


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    found: Generator[bytes, bytes, None],
    told: Callable[[bytes], None],
    counted: Counted,
) -> None:
    next(found)
    try:
        while data := await reader.read(65536):
            counted.octets += len(data)
            told(found.send(data))
            writer.write(data)
            await writer.drain()
    except ConnectionError:  # a client that is killed reads no more
        pass
    finally:
        writer.close()


def kinds(*, is_client: bool) -> Generator[bytes, bytes, None]:
    """The kinds of the messages that are complete with the bytes sent to it. A client's first message has no kind.

    Of a client, Q and E are statements; of the server, Z is the end of what it was asked for.
    """
    left, head, found = b"", 0 if is_client else 1, bytearray()
    while True:
        left += yield bytes(found)
        found.clear()
        while len(left) >= head + 4 and len(left) >= (size := head + int.from_bytes(left[head : head + 4])):
            found += left[:head]
            left, head = left[size:], 1
