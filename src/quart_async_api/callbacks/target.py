"""Allowed targets of callbacks (against SSRF): public https addresses. URLs are checked on submission, names on each call."""

import errno
import ipaddress
import logging
import re
import socket
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from ..settings import Settings
from ..upstream.addresses import Address, is_public
from .inbox import Inbox, receiver_of
from .names import Names

log = logging.getLogger(__name__)

LONGEST_URL = 2048
LONGEST_HOST = 253
_LAST_PORT = 65_535
_PORTS = {"https": 443, "http": 80}
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_.-]+")
_LOCAL = (".localhost", ".local", ".internal", ".home.arpa")  # RFC 6761, RFC 6762, RFC 8375; ICANN for .internal


class BadTarget(ValueError):
    """The URL is not an allowed target of callbacks."""


class BlockedAddress(OSError):
    """The name resolves to an address that is not allowed."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)  # aiohttp shows only `strerror`

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose text is allowed. Its addresses are not checked yet."""

    url: str
    host: str
    port: int


class Targets:
    """The rules for callback URLs and addresses of one service. `resolver` finds the addresses of names.

    The one exception is `inbox`, once it is open: at its literal address, in its own spelling, which no name stands for. The
    process that sends a callback may be another one than that with the receiver, which has accepted it: with `QAA_INBOX`, it
    calls the addresses of such URLs as well.
    """

    def __init__(
        self, settings: Settings, resolver: AbstractResolver | None = None, inbox: Inbox | None = None
    ) -> None:
        self._allow_private = settings.callback_allow_private
        self._exact = {name.lower() for name in settings.callback_hosts if not name.startswith(".")}
        self._suffixes = tuple(name.lower() for name in settings.callback_hosts if name.startswith("."))
        self._resolver = resolver
        self._inbox = inbox
        self._calls_inboxes = settings.inbox
        self._inboxes: set[tuple[str, int]] = set()  # of other processes

    def parse(self, text: str) -> Target:
        """Check the text of a URL, without its addresses. Raises BadTarget."""
        if self._inbox is not None and self._inbox.is_at(text):
            return Target(text, *(self._inbox.address or ("", 0)))
        if len(text) > LONGEST_URL:
            raise BadTarget(f"At most {LONGEST_URL} characters")
        if not text.isprintable() or " " in text or "\\" in text:
            raise BadTarget("Must be a URL without spaces, backslashes or invisible characters")
        try:
            url = httpx.URL(text)  # the sender parses it in the same way
            host = url.raw_host.decode("ascii").lower()
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise BadTarget(f"Must be a URL: {error}") from None
        if url.scheme not in _PORTS or not host:
            raise BadTarget("Must be an https:// URL")
        if len(str(url)) > LONGEST_URL or len(host) > LONGEST_HOST:
            raise BadTarget(f"At most {LONGEST_URL} characters, with at most {LONGEST_HOST} in the host")
        if url.userinfo or "@" in re.split("[/?#]", text.partition("://")[2])[0]:
            raise BadTarget("Must not contain a user name or password")
        if url.fragment or "#" in text:
            raise BadTarget("Must not contain a #fragment")
        if not self._allow_private and url.scheme != "https":
            raise BadTarget("Must be an https:// URL")
        port = _PORTS[url.scheme] if url.port is None else url.port
        if not 0 < port <= _LAST_PORT:
            raise BadTarget(f"Port {port} is out of range (1-{_LAST_PORT})")
        if not (self._allow_private or port in _PORTS.values()):
            raise BadTarget("Port must be 443, 80 or absent")
        if (self._exact or self._suffixes) and not (host in self._exact or host.endswith(self._suffixes or ("\0",))):
            raise BadTarget("The host is not in the list of allowed hosts (QAA_CALLBACK_HOSTS)")
        if (address := _literal(host)) is not None:
            self.admit(address)
        elif not self._allow_private and f".{host.removesuffix('.')}".endswith(_LOCAL):
            raise BadTarget(f"The name {host} is reserved for local use")
        return Target(str(url), host, port)

    def accepted(self, url: str) -> Target:
        """Check the URL of a stored callback again: the settings may have changed since it was accepted. Raises BadTarget."""
        if self._calls_inboxes and (place := receiver_of(url)) is not None:
            self._inboxes.add(place)
            return Target(url, *place)
        return self.parse(url)

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises BlockedAddress if one is not allowed, or OSError.

        A name without an address and a name with a private one raise the same error: it must not reveal internal names to
        the owner of the callback. The log has the reason.
        """
        if self._resolver is None:
            self._resolver = Names()
        try:
            found: list[ResolveResult] = await self._resolver.resolve(host, port, family)
            for result in found:
                self.admit(ipaddress.ip_address(result["host"].partition("%")[0]), BlockedAddress)
        except (OSError, UnicodeError) as error:
            if self._allow_private:
                raise
            log.info("callbacks cannot go to %s: %s", host, error)
            raise BlockedAddress(f"The name {host} has no address, or one that is not on the public internet") from None
        return found

    def admit(self, address: Address, error: type[Exception] = BadTarget) -> None:
        """Raise `error` for an address that is not allowed."""
        if not self._admits(address):
            raise error(f"The address {address} is not on the public internet")

    def _admits(self, address: Address) -> bool:
        return self._allow_private or is_public(address)

    def socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket for an address, literal or resolved. Raises BlockedAddress: the last check before a connection."""
        family, kind, protocol, _, address = info
        place = (str(address[0]), int(address[1]))
        own = self._inbox is not None and self._inbox.address == place
        if not own and place not in self._inboxes:  # names at these are refused by `resolve`
            self.admit(ipaddress.ip_address(str(address[0]).partition("%")[0]), BlockedAddress)
        return socket.socket(family, kind, protocol)


class AdmittedResolver(AbstractResolver):
    """Refuses a name if one of its addresses is refused: a connection may use any of them."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await self._targets.resolve(host, port, family)

    async def close(self) -> None: ...


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL that `Targets.parse` has accepted."""
    parsed = httpx.URL(url)
    host = parsed.raw_host.decode("ascii").lower().removesuffix(".")
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    return f"{parsed.scheme}://{host}:{parsed.port or _PORTS[parsed.scheme]}"


def _literal(host: str) -> Address | None:
    """Return a host's address, or None for a name. Raises BadTarget for an address in an unusual form.

    As in the WHATWG URL standard, a host whose last label is a number is not a name: many programs read 2130706433, 0x7f.1
    and 127.1 as 127.0.0.1.
    """
    if "%" not in host:  # no zone: it is valid only on this machine
        with suppress(ValueError):
            return ipaddress.ip_address(host)
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise BadTarget(f"{host} is neither a host name nor an IP address")
    return None
