"""A receiver of callbacks for the console: development only, at one address of this process, the last ones in memory."""

import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..moments import Clock, timestamp, utc_now
from .secrets import WebhookSecrets
from .signature import new_secret

PATH = "/console/inbox/"
KEPT = 100  # callbacks
KEPT_CHARACTERS = 200  # of a header field or an error
TOKENS = 1000

_TOKEN = "[A-Za-z0-9_-]{22}"  # noqa: S105 - its form
_PLACE = re.compile(rf"http://(127\.[0-9.]+|\[::1\]):([1-9][0-9]{{0,4}}){PATH}{_TOKEN}")


def receiver_of(url: str) -> tuple[str, int] | None:
    """Return the address of the receiver, of any process of this machine, that `url` may be a place of."""
    found = _PLACE.fullmatch(url)
    return None if found is None else (found[1].strip("[]"), int(found[2]))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One received callback. `attempt` counts those with its id; `problem` says why the signature does not verify.

    `with_another_secret` is what the check says of the same callback with a secret that did not sign it.
    """

    number: int
    at: str
    webhook_id: str
    attempt: int
    type: str
    job_id: str
    bytes: int
    problem: str | None
    with_another_secret: str


class Inbox:
    """Closed until `open`. A token, which a page of the console asks for, names the place of its callbacks."""

    def __init__(self, webhook_secrets: WebhookSecrets, *, clock: Clock = utc_now) -> None:
        self.address: tuple[str, int] | None = None
        self._secrets = webhook_secrets
        self._clock = clock
        self._owners: OrderedDict[str, str | None] = OrderedDict()  # by token: whose secret signs
        self._kept: deque[tuple[str, Arrival]] = deque(maxlen=KEPT)
        self._number = 0
        self._url: re.Pattern[str] | None = None
        self._verify: Callable[..., dict[str, Any]]
        self._refused: type[Exception]

    def open(self, host: str, port: int) -> None:
        """Receive at this address of the process, which is loopback."""
        from ..client.errors import InvalidSignature  # with the whole client
        from ..client.verification import verify

        self._verify, self._refused = verify, InvalidSignature
        self.address = host, port
        self._url = re.compile(re.escape(self._base()) + _TOKEN)

    def _base(self) -> str:
        host, port = self.address or ("", 0)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def is_at(self, url: str) -> bool:
        """Return whether `url` is a place of this receiver, spelled as `place` spells it and in no other way."""
        return self._url is not None and self._url.fullmatch(url) is not None

    def place(self, owner: str | None) -> tuple[str, str] | None:
        """Return a new token and its URL, for callbacks of the key `owner`; None if the receiver is closed."""
        if self.address is None:
            return None
        token = secrets.token_urlsafe(16)
        self._owners[token] = owner
        if len(self._owners) > TOKENS:
            self._owners.popitem(last=False)
        return token, self._base() + token

    def has(self, token: str) -> bool:
        return self.address is not None and token in self._owners

    async def receive(self, token: str, headers: Mapping[str, str], body: bytes) -> Arrival:
        """Check and keep a callback. Raises KeyError for an unknown token."""
        owner = self._owners[token]
        self._owners.move_to_end(token)
        document, problem = self._checked(headers, body, await self._secrets.signing(owner))
        _, other = self._checked(headers, body, [new_secret()])
        webhook_id, now = _short(headers.get("webhook-id")), timestamp(self._clock())
        attempt = 1 + sum(each == token and kept.webhook_id == webhook_id for each, kept in self._kept)
        data = document.get("data")
        job_id = data.get("id") if isinstance(data, dict) else None
        self._number += 1
        arrival = Arrival(
            self._number,
            now,
            webhook_id,
            attempt,
            _short(document.get("type")),
            _short(job_id),
            len(body),
            problem,
            other or "",
        )
        self._kept.append((token, arrival))
        return arrival

    def arrivals(self, token: str, after: int = 0) -> list[Arrival]:
        """Return what came to a place after arrival number `after`, oldest first."""
        return [kept for each, kept in self._kept if each == token and kept.number > after]

    def _checked(self, headers: Mapping[str, str], body: bytes, known: list[str]) -> tuple[dict[str, Any], str | None]:
        try:
            return self._verify(headers, body, known, now=lambda: self._clock().timestamp()), None
        except (self._refused, ValueError) as error:  # ValueError: no secret is stored
            return {}, _short(str(error))


def _short(value: object) -> str:
    return value[:KEPT_CHARACTERS] if isinstance(value, str) else ""
