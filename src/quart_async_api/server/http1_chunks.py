"""The chunked coding of request bodies (RFC 9112 section 7.1), to the letter."""

import re

from .http1_head import Refused, trailers

_LONGEST_LINE = 256  # bytes: a size with its extensions
_LONGEST_TRAILERS = 8192  # bytes
_CHUNKS_AT_ONCE = 500  # between two turns of the event loop
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Chunks:
    """Decodes a body piece by piece. Extensions and trailers are checked and dropped: ASGI has no place for them."""

    __slots__ = ("_at_end_of_chunk", "_in_trailers", "_left", "is_complete")

    def __init__(self) -> None:
        self.is_complete = False
        self._left = 0  # bytes of the chunk
        self._at_end_of_chunk = self._in_trailers = False

    def read(self, data: bytes) -> tuple[bytes, int]:
        """Return the bytes of the body in `data`, and how many bytes of `data` are used up. Raises Refused.

        Reads a bounded number of chunks: call it again with the rest until it uses up nothing.
        """
        body: list[bytes] = []
        at = 0
        for _ in range(_CHUNKS_AT_ONCE):
            if self._left:
                piece = data[at : at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._at_end_of_chunk = not self._left
            if self._left or self._in_trailers:
                break
            if self._at_end_of_chunk:
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise Refused(400)
                if len(data) < at + 2:
                    break
                at += 2
                self._at_end_of_chunk = False
            end = data.find(b"\r\n", at, at + _LONGEST_LINE)
            if end < 0:
                if len(data) - at >= _LONGEST_LINE:
                    raise Refused(400)
                break
            size = _SIZE.fullmatch(data, at, end)
            if size is None:
                raise Refused(400)
            at = end + 2
            self._left = int(size[1], 16)
            self._in_trailers = not self._left
        if self._in_trailers:
            at = self._end(data, at)
        return b"".join(body), at

    def _end(self, data: bytes, at: int) -> int:
        """Return where the body ends, or `at` while its trailers are incomplete."""
        if data.startswith(b"\r\n", at):
            self.is_complete = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + _LONGEST_TRAILERS)
        if end < 0:
            if len(data) - at >= _LONGEST_TRAILERS:
                raise Refused(431)
            return at
        if not trailers(data, at, end + 2):
            raise Refused(400)
        self.is_complete = True
        return end + 4
