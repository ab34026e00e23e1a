"""The comics: JSON documents in the form of xkcd, cached in memory. Concurrent calls share one request."""

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ComicNotFound, UpstreamFailed
from .addresses import without_credentials
from .client import UpstreamClient, fetch_json

T = TypeVar("T")

LATEST_SECONDS = 60.0
_PICKED = 100  # numbers that are not picked again soon
MISSING = 404  # xkcd has no comic 404: the page of this number is a 404


@dataclass(frozen=True, slots=True)
class Comic:
    """One comic. Its texts are unchanged, with entities and markup. `url` is the HTML page."""

    num: int
    title: str
    alt: str
    img: str
    url: str


class _Document(BaseModel):
    model_config = ConfigDict(strict=True)

    num: Annotated[int, Field(ge=1)]
    title: str
    alt: str
    img: Annotated[str, Field(min_length=1)]


class ComicCatalogue:
    """The comics at `base_url`. Comics never change, so the last `cache_size` comics are cached.

    Every method raises UpstreamTimeout or UpstreamFailed. Errors are not cached. `clock` returns seconds.
    """

    def __init__(
        self,
        client: UpstreamClient,
        base_url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        cache_size: int = 4096,
    ) -> None:
        self._client = client
        self._base = base_url.rstrip("/")
        self._clock = clock
        self._cache_size = cache_size
        self._comics: OrderedDict[int, Comic] = OrderedDict()
        self._latest: tuple[int, float] | None = None  # the number, and the time of the response
        self._picked: deque[int] = deque(maxlen=_PICKED)
        self._calls: _SharedCalls[int | None, Comic] = _SharedCalls()

    async def latest(self) -> int:
        """Return the highest number, requested at most once a minute."""
        if self._latest and self._clock() - self._latest[1] < LATEST_SECONDS:
            return self._latest[0]
        return (await self._shared(None)).num

    async def comic(self, num: int) -> Comic:
        """Return the comic with this number. Raises ComicNotFound."""
        if num < 1 or num == MISSING:
            raise ComicNotFound(f"There is no comic {num}.")
        if (known := self._comics.get(num)) is not None:
            self._comics.move_to_end(num)
            return known
        return await self._shared(num)

    async def pick(self, number: int, random: random.Random) -> list[int]:
        """Return `number` different random numbers of existing comics, or all if there are fewer.

        Those of the last calls come again only where too few are left: they are cached, or are being fetched.
        """
        latest = await self.latest()
        count = latest - (latest >= MISSING)
        drawn = random.sample(range(1, count + 1), min(number + len(self._picked), count))
        picked = sorted((n + (n >= MISSING) for n in drawn), key=self._picked.__contains__)[:number]
        self._picked.extend(picked)
        return picked

    async def _shared(self, num: int | None) -> Comic:
        headers = self._client.context_headers()  # a shared call belongs to the trace of the first caller
        return await self._calls.ask(num, lambda: self._fetch(num, dict(headers)))

    async def _fetch(self, num: int | None, headers: dict[str, str]) -> Comic:
        url = f"{self._base}/info.0.json" if num is None else f"{self._base}/{num}/info.0.json"
        missing = None if num is None else ComicNotFound(f"There is no comic {num}.")
        _, value = await fetch_json(self._client, url, headers=headers, missing=missing)
        comic = self._read(value, num)
        self._comics[comic.num] = comic
        while len(self._comics) > self._cache_size:
            self._comics.popitem(last=False)
        if num is None:
            self._latest = comic.num, self._clock()
        return comic

    def _read(self, value: object, num: int | None) -> Comic:
        try:
            document = _Document.model_validate(value)
            page = f"{without_credentials(self._base)}/{document.num}/"
            img = urljoin(page, document.img)
            parts = urlsplit(img)
        except ValueError as error:
            raise UpstreamFailed(f"Comic {num or 'latest'} is not a valid comic.") from _without_input(error)
        if num not in (None, document.num) or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UpstreamFailed(f"Comic {num or 'latest'} has another number, or its image has no http URL.")
        return Comic(document.num, document.title, document.alt, img, page)


def _without_input(error: ValueError) -> ValueError:
    """Return a short cause for the log: the text of pydantic repeats the response of the upstream."""
    if not isinstance(error, ValidationError):
        return error
    return ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)))


K = TypeVar("K")


class _Call(Generic[T]):
    __slots__ = ("askers", "task")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.askers = 0


class _SharedCalls(Generic[K, T]):
    """At most one call per key at a time; all concurrent callers get its outcome.

    The call is cancelled when its last caller is cancelled.
    """

    def __init__(self) -> None:
        self._calls: dict[K, _Call[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()  # asyncio itself holds only weak references

    async def ask(self, key: K, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        call = self._calls.get(key)
        if call is None or call.task.done():
            call = self._calls[key] = self._started(key, start)
        call.askers += 1
        try:
            await asyncio.wait([call.task])  # unlike awaiting the task, does not cancel it
            return call.task.result()
        finally:
            call.askers -= 1
            if not call.askers:
                call.task.cancel()
                self._forget(key, call.task)

    def _started(self, key: K, start: Callable[[], Coroutine[Any, Any, T]]) -> _Call[T]:
        # An empty context: the call may outlive the request that started it.
        task = asyncio.get_running_loop().create_task(start(), context=Context())
        self._tasks.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            self._forget(key, task)
            if not task.cancelled():
                task.exception()  # retrieved, even if the last caller was cancelled in this step

        task.add_done_callback(ended)
        return _Call(task)

    def _forget(self, key: K, task: asyncio.Task[T]) -> None:
        if key in self._calls and self._calls[key].task is task:
            del self._calls[key]
