"""What came on a connection, as heads and bodies one after another."""

from .http1_chunks import Chunks
from .http1_head import CHUNKED, Head, Refused, could_begin, empty_lines, read

_END = b"\r\n\r\n"


class Input:
    """Keeps the bytes that were not read yet. `len()` of it is their number. A head has at most `longest_head` bytes."""

    __slots__ = ("_chunks", "_data", "_left", "_longest_head", "_seen")

    def __init__(self, longest_head: int) -> None:
        self._longest_head = longest_head
        self._data = b""
        self._seen = 0  # bytes in which no head ends
        self._chunks: Chunks | None = None
        self._left = 0  # bytes of a body of known length

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data

    def take(self) -> bytes:
        """Return and forget all of it."""
        data, self._data = self._data, b""
        return data

    def read_head(self) -> Head | None:
        """Return a head once it is whole; one that opens a WebSocket stays. Raises Refused."""
        data, seen = self._data, self._seen
        if data.startswith(b"\r\n"):
            self._data = data = data[empty_lines(data) :]
            seen = 0
        end = data.find(_END, max(0, seen - len(_END) + 1))
        size = len(data) if end < 0 else end + len(_END)
        if size > self._longest_head:
            raise Refused(431)
        if end < 0:
            if not could_begin(data, max(0, seen - 1)):
                raise Refused(400)
            self._seen = size
            return None
        head = read(data if size == len(data) else data[:size])
        self._seen = 0
        if not head.opens_socket:
            self._data = data[size:]
            self._left = head.length
            self._chunks = Chunks() if head.length == CHUNKED else None
        return head

    def read_body(self) -> tuple[bytes, bool]:
        """Return what came of the body of the last head, and whether this was the end of it. Raises Refused.

        Of a body in chunks there may be more: call again until there is nothing.
        """
        if self._chunks is None:
            body = self._data[: self._left]
            self._left -= len(body)
            self._data = self._data[len(body) :]
            return body, not self._left
        body, used = self._chunks.read(self._data)
        self._data = self._data[used:]
        return body, self._chunks.is_complete
