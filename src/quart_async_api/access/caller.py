"""Who asks: a caller, what it may do, and whose jobs it may see."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"  # change things, and start jobs whatever the method
    ADMIN = "admin"  # everything, and the jobs of all keys


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, or anyone while there is none. `key_id` is what the jobs that it makes belong to."""

    key_id: str | None = None
    name: str = "anonymous"
    scopes: frozenset[Scope] = frozenset(Scope)

    @property
    def sees(self) -> str | None:
        """The owner of the jobs that it may see; None: all."""
        return None if Scope.ADMIN in self.scopes else self.key_id

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYONE = Caller()
