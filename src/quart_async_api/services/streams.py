"""Limits for open event streams and WebSockets. Independent of HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet, WeakValueDictionary

from ..errors import QuotaExceeded, TooManyStreams

_KEPT_OF = 100  # one stream in so many is reserved
_RETRY_SECONDS = 5  # a stream of the caller may have ended by then


class Stream:
    """The place of one open stream, held until it is closed or garbage-collected."""

    __slots__ = ("__weakref__", "share")

    def __init__(self, share: "WeakSet[Stream] | None") -> None:
        self.share = share  # the places of the same caller, which live as long as one of them


class Streams:
    """The event streams and WebSockets that this process holds open: at most `most`, and `share` for one caller (0: any).

    The last hundredth, and one place at least, is kept for administrators.
    """

    def __init__(self, most: int, share: int = 0) -> None:
        self.share = share
        self._most = most
        self._kept = -(-most // _KEPT_OF) if most > 1 else 0
        # Weak, so that a client that disconnects before the first byte of a stream frees its place.
        self._open: WeakSet[Stream] = WeakSet()
        self._shares: WeakValueDictionary[str, WeakSet[Stream]] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._open)

    def left(self, owner: str) -> int:
        """Return the free places in the share of the caller `owner`."""
        return max(0, self.share - len(self._shares.get(owner, ())))

    def open(self, owner: str | None = None, *, is_admin: bool = True) -> Stream:
        """Take a place in the share of the caller `owner` (None: in no share). Raises QuotaExceeded, TooManyStreams."""
        share = None if owner is None else self._shares.setdefault(owner, WeakSet())
        if share is not None and 0 < self.share <= len(share):
            detail = f"{self.share} event streams and WebSockets are open already for this caller"
            raise QuotaExceeded("streams", detail, _RETRY_SECONDS)
        if len(self._open) >= self._most - (0 if is_admin else self._kept):
            kept = "" if is_admin else f", {self._kept} of them kept for administrators"
            raise TooManyStreams(f"at most {self._most} event streams and WebSockets may be open{kept}")
        stream = Stream(share)
        if share is not None:
            share.add(stream)
        self._open.add(stream)
        return stream

    @contextmanager
    def closing(self, stream: Stream) -> Iterator[None]:
        try:
            yield
        finally:
            if stream.share is not None:
                stream.share.discard(stream)
            self._open.discard(stream)
