"""API keys in the shared database: create, list, revoke."""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..callbacks.queues import look_again
from ..callbacks.secrets import new_secret_of
from ..db.connection import Database
from ..db.group_commit import GroupCommit, Hold, Unit
from ..errors import FieldError, InvalidInput
from ..moments import Clock, later, timestamp, utc_now
from .caller import Caller, Scope

DEFAULT_SCOPES = frozenset({Scope.READ, Scope.WRITE})
LONGEST_NAME = 100
_ID = re.compile(r"[0-9a-f]{12}")
_PREFIX = "qaa_"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43  # digits of base 62: 256 bits
_CHECKSUM = 6  # digits of base 62: a CRC-32
_KEY = re.compile(rf"{_PREFIX}({_ID.pattern})_[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")
_WITHOUT_CHECKSUM = re.compile(rf"{_PREFIX}({_ID.pattern})_[\w-]{{43}}", re.ASCII)  # the form of older keys
_COLUMNS = "id, name, digest, scopes, created_at, expires_at, revoked_at, last_used_at"
_SELECT = f"SELECT {_COLUMNS} FROM api_keys"
_RETURNED = f"RETURNING {_COLUMNS}"


@dataclass(frozen=True, slots=True)
class Key:
    """A row of api_keys. Times are timestamps."""

    id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None

    def is_valid(self, now: str) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opens_for(self, text: str) -> bool:
        """Compare `text` with this key in constant time."""
        return hmac.compare_digest(self.digest, digest(text))

    @property
    def caller(self) -> Caller:
        return Caller(self.id, self.name, self.scopes)

    def document(self) -> dict[str, Any]:
        """Return the document of the key, without its secret."""
        shown = ("id", "name", "created_at", "expires_at", "revoked_at", "last_used_at")
        return {name: getattr(self, name) for name in shown} | {"scopes": names(self.scopes)}


def names(scopes: Collection[Scope]) -> list[str]:
    return [scope.value for scope in Scope if scope in scopes]


def digest(text: str) -> str:
    """Return the digest to store. A secret has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def id_of(text: str) -> str | None:
    """Return the id in the text of a key; None if the text is not a key, or mistyped."""
    match = _KEY.fullmatch(text)
    if match is not None and text[-_CHECKSUM:] != _checksum(text[:-_CHECKSUM]):
        return None
    match = match or _WITHOUT_CHECKSUM.fullmatch(text)
    return match and match[1]


def is_mistyped(text: str) -> bool:
    """Return True if `text` begins like a key, but has a wrong length or checksum."""
    return text.startswith(_PREFIX) and id_of(text) is None


def _checksum(text: str) -> str:
    """Return the CRC-32 of `text` in base 62, padded with zeros."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


def _new_text(key_id: str) -> str:
    text = f"{_PREFIX}{key_id}_" + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    return text + _checksum(text)


class KeyStore:
    """All queries about keys. Each change raises the version, so that all processes read the keys again."""

    def __init__(self, database: Database, commits: GroupCommit, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._commits = commits
        self._clock = clock

    async def create(
        self, name: str | None = None, scopes: Collection[Scope] = (), lifetime: float | None = None
    ) -> tuple[Key, str]:
        """Create a key with its own webhook secret. Return the key and its text, which is not stored.

        `lifetime` is in seconds. Raises InvalidInput for a name that is invalid or taken.
        """
        key_id = secrets.token_hex(6)
        name = f"key-{key_id}" if name is None else name
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME or _ID.fullmatch(name):
            raise _bad_name(f"Must be 1 to {LONGEST_NAME} printable characters, and not look like a key's id")
        text = _new_text(key_id)
        now = timestamp(self._clock())
        expires_at = None if lifetime is None else later(now, lifetime)
        key = Key(key_id, name, digest(text), frozenset(scopes) or DEFAULT_SCOPES, now, expires_at)

        def unit() -> Unit[bool]:
            version = yield from next_version()
            taken = yield ("SELECT 1 FROM api_keys WHERE name = ?", (name,))
            if taken.rows:
                return False
            yield (
                "INSERT INTO api_keys (id, name, digest, scopes, version, created_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key.id, key.name, key.digest, ",".join(names(key.scopes)), version, now, expires_at),
            )
            yield new_secret_of(key.id, now)
            return True

        if not await self._commits.run(unit):
            raise _bad_name(f"Another key is named {name!r}, perhaps a revoked one; use another name")
        return key, text

    async def revoke(self, id_or_name: str) -> Key:
        """Revoke a key for ever, and end its sessions and tickets. Raises InvalidInput."""
        now = timestamp(self._clock())

        def unit() -> Unit[Key | None]:
            version = yield from next_version()
            revoked = yield (
                "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?), version = ? WHERE id = ? OR name = ? "
                + _RETURNED,
                (now, version, id_or_name, id_or_name),
            )
            for row in revoked.rows:
                yield ("DELETE FROM access_tokens WHERE key_id = ?", (row["id"],))
                yield look_again(row["id"])
                return _key(row)
            return None

        key = await self._commits.run(unit)
        if key is None:
            raise _unknown(id_or_name)
        return key

    async def find(self, id_or_name: str) -> Key:
        """Raises InvalidInput."""
        rows = await self._database.read(_SELECT + " WHERE id = ? OR name = ?", id_or_name, id_or_name)
        if not rows:
            raise _unknown(id_or_name)
        return _key(rows[0])

    async def all(self) -> list[Key]:
        """Return all keys, also revoked and expired ones, oldest first."""
        return [_key(row) for row in await self._database.read(_SELECT + " ORDER BY created_at, id")]

    async def version(self) -> int | None:
        """Return the version of the keys; None before the first key."""
        version: int | None = (await self._database.rows("SELECT MAX(version) FROM api_keys"))[0][0]
        return version

    async def current(self) -> tuple[int | None, Mapping[str, Key]]:
        """Return all keys by id, with their version: of one statement, so that they belong together."""
        rows = await self._database.read(f"SELECT {_COLUMNS}, version FROM api_keys")
        version: int | None = max((row.pop("version") for row in rows), default=None)
        return version, {row["id"]: _key(row) for row in rows}

    async def used(self, key_id: str, now: str, every: float) -> None:
        """Store the time of the last use, unless another process did within `every` seconds."""

        def unit() -> Unit[None]:
            yield (
                "UPDATE api_keys SET last_used_at = ? "
                "WHERE id = ? AND (last_used_at IS NULL OR last_used_at <= ? OR last_used_at > ?)",
                (now, key_id, later(now, -every), later(now, every)),  # a clock that was ahead wrote the latter
            )

        await self._commits.run(unit)


def _bad_name(problem: str) -> InvalidInput:
    return InvalidInput(FieldError("#/name", problem))


def _unknown(id_or_name: str) -> InvalidInput:
    return InvalidInput(
        FieldError("#/key", f"No key has the id or name {id_or_name!r}; `quart-async-api keys list` lists all keys")
    )


def next_version() -> Unit[int]:
    """Return the version for the next change of keys or end of a session, inside its transaction.

    One change at a time: of two with one version, other processes would notice the first alone.
    """
    yield Hold("api keys")
    last = yield ("SELECT MAX(version) AS last FROM api_keys", ())
    return int(last.rows[0]["last"] or 0) + 1


def _key(row: Mapping[str, Any]) -> Key:
    return Key(**{**row, "scopes": frozenset(map(Scope, row["scopes"].split(",")))})
