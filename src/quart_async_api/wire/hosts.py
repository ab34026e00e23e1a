"""Which names the service answers to: the Host allow-list that keeps web pages from reaching it by DNS rebinding."""

import ipaddress
import re
from functools import lru_cache

from werkzeug.exceptions import BadRequest, MisdirectedRequest

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_NAME = 253
_HIGHEST_PORT = 2**16 - 1
# uri-host [ ":" port ] (RFC 9110 section 7.2): a bracketed IPv6 address, or a name of DNS labels, which IPv4 addresses are too.
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)\.?)(?::(?P<port>[0-9]{0,5}))?"
)


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, can only be this machine (RFC 6761 section 6.3 for names)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


@lru_cache(maxsize=256)
def host_of(authority: str) -> str | None:
    """The name or address of a Host or :authority, in lower case, without port, brackets and trailing dot; None: invalid."""
    match = _AUTHORITY.fullmatch(authority.lower()) if authority.isascii() else None
    if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
        return None
    if match["name"]:
        return match["name"] if len(match["name"]) <= _LONGEST_NAME else None
    try:
        return str(ipaddress.IPv6Address(match["ipv6"]))
    except ValueError:
        return None


def check_syntax(host: str | None) -> None:
    """Raises BadRequest (RFC 9112 section 3.2) for a Host that is missing (None), or is no name or address with a port.

    An empty one is allowed there; no service has it for its name.
    """
    if host is None:
        raise BadRequest("The request has no Host; HTTP/1.1 wants exactly one.")
    if host and host_of(host) is None:
        raise BadRequest("The Host is not a name or an address, with or without a port: `example.com:8000`, `[::1]`.")


class AllowedHosts:
    """Loopback names, the address that the connection came in on, and the names of QAA_ALLOWED_HOSTS."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._any = "*" in names
        self._exact = _LOOPBACK | {host_of(name) or host_of(f"[{name}]") for name in names}
        self._suffixes = tuple(name.lower() for name in names if name.startswith("."))

    def check(self, host_header: str, bound_address: str | None) -> None:
        """Raises MisdirectedRequest (421). A name can be rebound to any address, an address cannot: the bound one is safe."""
        host = host_of(host_header) or ""
        is_bound = bound_address is not None and bool(host) and _plain(host) == _plain(bound_address)
        allowed = self._any or is_bound or host in self._exact or host.endswith(self._suffixes or ("\0",))
        if not allowed:
            raise MisdirectedRequest(
                f"This service does not answer to {host[:100]!r}; its operator can add it to QAA_ALLOWED_HOSTS."
            )


def _plain(address: str) -> str:
    """An address without its zone, and as IPv4 where it is that in IPv6's form, as of a socket that takes both."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
