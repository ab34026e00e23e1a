"""What names stand for is asked in threads of our own."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from quart_async_api.callbacks import names
from quart_async_api.callbacks.names import Names


async def test_a_name_is_found() -> None:
    assert {found["host"] for found in await Names().resolve("localhost", 80, socket.AF_INET)} == {"127.0.0.1"}


async def test_what_is_no_name_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r"."):
        await Names().resolve("nowhere.invalid", 80)


async def test_a_name_server_that_does_not_answer_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, ask = threading.Event(), socket.getaddrinfo

    def slow(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "localhost":
            answered.wait()
        return ask("localhost", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(names, "THREADS", 60)
    found = Names()
    hanging = [asyncio.create_task(found.resolve(f"{number}.example", 80)) for number in range(29)]
    assert await found.resolve("localhost", 80)
    assert await asyncio.to_thread(lambda: "free") == "free"
    hanging[0].cancel()
    answered.set()
    assert all(await asyncio.gather(*hanging[1:]))
