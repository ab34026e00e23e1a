"""Tests of a service that is built on this one: a pytest plugin, and its parts.

A test takes the fixture `qaa_service`: the app on a database of its own, with a client, a clock that the test moves, and jobs
that run when the test says so. Nothing here replaces a part of the service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contexts import FakeContext, FakeThreadContext
    from .inbox import Inbox, Received
    from .run import run_service
    from .service import ServiceUnderTest
    from .worker import JobMode

__all__ = [
    "FakeContext",
    "FakeThreadContext",
    "Inbox",
    "JobMode",
    "Received",
    "ServiceUnderTest",
    "run_service",
]

# Imported when they are asked for: pytest loads the plugin in every run of an environment that has this package.
_HOMES = {
    "FakeContext": "contexts",
    "FakeThreadContext": "contexts",
    "Inbox": "inbox",
    "JobMode": "worker",
    "Received": "inbox",
    "ServiceUnderTest": "service",
    "run_service": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
