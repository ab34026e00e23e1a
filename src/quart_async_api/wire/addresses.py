"""The names and addresses in requests: their syntax, loopback, and the network that counts as one client."""

import ipaddress
import re
from functools import lru_cache

from werkzeug.exceptions import BadRequest

_LONGEST_NAME = 253
_HIGHEST_PORT = 2**16 - 1
# uri-host [ ":" port ] (RFC 9110 section 7.2): a bracketed IPv6 address, or a name of DNS labels, which IPv4 addresses are too.
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)\.?)(?::(?P<port>[0-9]{0,5}))?"
)


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, is always this machine (RFC 6761 section 6.3 for names)."""
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
    """Return the host of a Host or :authority, in lower case, without port, brackets and trailing dot; None: invalid."""
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
    """Raise BadRequest (RFC 9112 section 3.2) for a Host that is missing (None) or invalid.

    An empty Host passes, as the RFC allows it. It matches no name of a service.
    """
    if host is None:
        raise BadRequest("The request has no Host; HTTP/1.1 requires exactly one.")
    if host and host_of(host) is None:
        raise BadRequest("The Host is not a name or an address, with or without a port: `example.com:8000`, `[::1]`.")


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
