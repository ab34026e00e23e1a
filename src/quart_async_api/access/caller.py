"""The caller of a request, its scopes, and the jobs it may see."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"  # change things, and start jobs whatever the method
    METRICS = "metrics"  # nothing but /metrics
    ADMIN = "admin"  # everything, and the jobs of all keys


@dataclass(frozen=True, slots=True)
class Caller:
    """An API key, anyone while no key exists, or nobody known. `key_id` is the owner of its jobs."""

    key_id: str | None = None
    name: str = "anonymous"
    scopes: frozenset[Scope] = frozenset(Scope)

    @property
    def sees(self) -> str | None:
        """Owner of the jobs that the caller may see; None: all jobs; empty: none."""
        return None if Scope.ADMIN in self.scopes else self.key_id or ""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYONE = Caller()  # while no key exists
NOBODY = Caller(scopes=frozenset())  # who did not have to say who it is
