"""Ends open event streams and WebSockets when the key or session that opened them ends."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ..background.loops import Loop
from ..moments import Clock, timestamp, utc_now
from .caller import ANYONE, Caller
from .key_ring import KeyRing
from .keys import Key
from .tokens import AccessTokens, Session

EVERY_SECONDS = 1.0  # maximum delay until an expiry, or a change in another process, is noticed
_NEVER = "~"  # after every timestamp

_Right = tuple[str | None, str | None]  # the id of a key, the digest of a session


class Admission:
    """The key or session that opened a stream or WebSocket. When it ends, `has_ended` is set and `wake` is called."""

    def __init__(self, caller: Caller = ANYONE, session: str | None = None) -> None:
        """`session` is the digest of the session, if the caller has signed in."""
        self.sees = caller.sees
        self.right: _Right = (caller.key_id, session)
        self.has_ended = False
        self.wake: Callable[[], None] = lambda: None

    def end(self) -> None:
        self.has_ended = True
        self.wake()


class Admissions:
    """All admissions of this process, by key and session.

    Each round reads the version of the keys, which also changes when a session ends. If it has changed, or a key or session
    expires, the round checks all admissions; otherwise only those since the last round.
    """

    def __init__(self, key_ring: KeyRing, tokens: AccessTokens, *, clock: Clock = utc_now) -> None:
        self._key_ring = key_ring
        self._tokens = tokens
        self._clock = clock
        self._open: dict[_Right, set[Admission]] = {}
        self._new: set[_Right] = set()  # not checked yet
        self._keys: Mapping[str, Key] = {}  # at the last check of all others
        self._next_end = _NEVER  # earliest expiry
        self.loop = Loop("open streams", self._check, every=EVERY_SECONDS)
        key_ring.on_change = self.loop.wake

    @contextmanager
    def holding(self, admission: Admission) -> Iterator[None]:
        """Watch `admission` inside."""
        right = admission.right
        group = self._open.setdefault(right, set())
        group.add(admission)
        self._new.add(right)  # the key may have ended since it was checked
        try:
            yield
        finally:
            group.discard(admission)
            if not group:
                self._open.pop(right, None)
                self._new.discard(right)

    async def _check(self) -> None:
        if not self._open:
            return
        rights, self._new = self._new, set()
        try:
            keys = await self._key_ring.keys()
            if is_change := keys is not self._keys or self._next_end <= self._now():
                rights = self._open.keys() - self._new  # those opened meanwhile may have newer keys
            sessions = await self._tokens.sessions({session for _, session in rights if session is not None})
        except BaseException:
            self._new |= rights
            raise
        now = self._now()
        ends = {right: _end_of(right, keys, sessions) for right in rights}
        for right in [right for right, end in ends.items() if end <= now]:
            del ends[right]
            for admission in tuple(self._open.get(right, ())):
                admission.end()
        self._keys = keys
        self._next_end = min([_NEVER if is_change else self._next_end, *ends.values()])

    def _now(self) -> str:
        return timestamp(self._clock())


def _end_of(right: _Right, keys: Mapping[str, Key], sessions: Mapping[str, Session]) -> str:
    """Return when it ends; empty if it has ended."""
    key_id, session = right
    if not keys:
        return _NEVER  # the service is open to anyone
    key = keys.get(key_id or "")
    if key is None or key.revoked_at is not None or (session is not None and session not in sessions):
        return ""
    return min(key.expires_at or _NEVER, _NEVER if session is None else sessions[session].expires_at)
