"""The allow-list of Host names, against DNS rebinding."""

import ipaddress
from functools import lru_cache

from werkzeug.exceptions import MisdirectedRequest

from ...wire.addresses import host_of

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class AllowedHosts:
    """Allows loopback names, the local address of the connection, and the names in QAA_ALLOWED_HOSTS."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._any = "*" in names
        self._exact = _LOOPBACK | {host_of(name) or host_of(f"[{name}]") for name in names}
        self._suffixes = tuple(name.lower() for name in names if name.startswith("."))
        self._allows = lru_cache(maxsize=1024)(self._is_allowed)

    def check(self, host_header: str, bound_address: str | None) -> None:
        """Raise MisdirectedRequest (421) for another name. Names can be rebound, so only the local address is always safe."""
        if not self._allows(host_header, bound_address):
            host = host_of(host_header) or ""
            raise MisdirectedRequest(
                f"This service does not answer to {host[:100]!r}; its operator can add it to QAA_ALLOWED_HOSTS."
            )

    def _is_allowed(self, host_header: str, bound_address: str | None) -> bool:
        host = host_of(host_header) or ""
        is_bound = bound_address is not None and bool(host) and _plain(host) == _plain(bound_address)
        return self._any or is_bound or host in self._exact or host.endswith(self._suffixes or ("\0",))


def _plain(address: str) -> str:
    """Return an address without its zone, and an IPv4-mapped IPv6 address as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
