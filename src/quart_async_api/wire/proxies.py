"""The client behind a reverse proxy, by forwarded headers. Only those of trusted addresses count."""

import ipaddress
from functools import lru_cache
from typing import Any

from .addresses import host_of

_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Scope = dict[str, Any]


class TrustedProxies:
    """Rewrites an ASGI scope's client, scheme and Host from X-Forwarded-For, -Proto and -Host."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def resolve(self, scope: Scope) -> Scope:
        """Return the scope as the first proxy saw it; unchanged if the peer is not trusted."""
        client = scope.get("client")
        if not self._networks or not client or not self.trusts(client[0]):
            return scope
        sent = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _FORWARDED}
        resolved = dict(scope)
        # From the right: each proxy appends the address of its client. Entries to the left of an untrusted one may be forged.
        hops = [hop.strip() for hop in sent.get(b"x-forwarded-for", "").split(",") if hop.strip()]
        for hop in reversed(hops):
            address = hop if _is_address(hop) else host_of(hop) or hop  # with a port, or in brackets
            if not _is_address(address):
                break
            resolved["client"] = (address, 0)
            if not self.trusts(address):
                break
        scheme = sent.get(b"x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https"):
            resolved["scheme"] = {"http": "ws", "https": "wss"}[scheme] if scope["type"] == "websocket" else scheme
        if host := sent.get(b"x-forwarded-host", "").rpartition(",")[2].strip():
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            resolved["headers"] = [*others, (b"host", host.encode("latin-1"))]
        return resolved

    def _trusts(self, address: str) -> bool:
        """Return whether `address` is one of the proxies."""
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
