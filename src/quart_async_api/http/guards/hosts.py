"""Which names the service answers to: the Host allow-list that keeps web pages from reaching it by DNS rebinding."""

import ipaddress

from werkzeug.exceptions import MisdirectedRequest

from ...wire.addresses import host_of

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


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
