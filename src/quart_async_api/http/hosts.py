"""Which names the service answers to: the Host allow-list that keeps web pages from reaching it by DNS rebinding."""

import ipaddress

from werkzeug.exceptions import MisdirectedRequest

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


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


def split_host(value: str) -> str:
    """The name or address of a Host header, in lower case, without port, brackets and trailing dot."""
    host = value.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


class AllowedHosts:
    """Loopback names, the address that the connection came in on, and the names of QAA_ALLOWED_HOSTS."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._any = "*" in names
        self._exact = _LOOPBACK | {split_host(name) for name in names if not name.startswith(".")}
        self._suffixes = tuple(name.lower() for name in names if name.startswith("."))

    def check(self, host_header: str, bound_address: str | None) -> None:
        """Raises MisdirectedRequest (421). A name can be rebound to any address, an address cannot: the bound one is safe."""
        host = split_host(host_header)
        allowed = self._any or host in self._exact or host == bound_address or host.endswith(self._suffixes or ("\0",))
        if not allowed:
            shown = host[:100] if host.isprintable() else "that name"
            raise MisdirectedRequest(
                f"This service does not answer to {shown!r}; its operator can add it to QAA_ALLOWED_HOSTS."
            )
