"""Finds the key of a request, always in the current state of the database, with few queries."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from ..background.tasks import BackgroundTasks
from ..errors import DatabaseUnavailable
from ..moments import Clock, timestamp, utc_now
from .caller import Caller
from .keys import Key, KeyStore, id_of

NOTED_SECONDS = 60.0  # between two writes of `last_used_at`


class KeyRing:
    """The keys in the database. A key that any process creates or revokes applies to every later request.

    Each request reads the version of the keys, and all keys only if the version has changed. `on_change` is called after a
    change of the version: a key has changed, or a session has ended.
    """

    def __init__(self, store: KeyStore, *, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._version: int | None = None
        self._reading = asyncio.Lock()
        self.on_change: Callable[[], None] = lambda: None
        self._noted: dict[str, float] = {}
        self._background: BackgroundTasks | None = None

    def start(self, background: BackgroundTasks) -> None:
        self._background = background

    @property
    def has_keys(self) -> bool:
        """Whether a key was ever made, as far as the last read knows."""
        return bool(self._keys)

    async def keys(self) -> Mapping[str, Key]:
        """Return the current keys by id. Raises DatabaseUnavailable.

        The mapping is a new object after each change.
        """
        version = await self._store.version()
        if version != self._version:
            async with self._reading:
                if version != self._version:  # else another request has read them, after this one came
                    await self._read()
        return self._keys

    async def _read(self) -> None:
        version, keys = await self._store.current()
        if version != self._version:
            self._version, self._keys = version, keys
            self.on_change()

    def caller(self, keys: Mapping[str, Key], text: str) -> Caller | None:
        """Return the valid key with this text, or None."""
        key = keys.get(id_of(text) or "")
        return self.owner(keys, key.id) if key is not None and key.opens_for(text) else None

    def owner(self, keys: Mapping[str, Key], key_id: str | None) -> Caller | None:
        """The same for what stands for the key of this id."""
        key = keys.get(key_id or "")
        if key is None or not key.is_valid(timestamp(self._clock())):
            return None
        self._note(key.id)
        return key.caller

    def _note(self, key_id: str) -> None:
        now = time.monotonic()
        if self._background is not None and now - self._noted.get(key_id, -NOTED_SECONDS) >= NOTED_SECONDS:
            self._noted[key_id] = now
            self._background.spawn(self._write_use(key_id), name="last use of a key")

    async def _write_use(self, key_id: str) -> None:
        with suppress(DatabaseUnavailable):  # not important enough to fail the request
            await self._store.used(key_id, timestamp(self._clock()), NOTED_SECONDS)
