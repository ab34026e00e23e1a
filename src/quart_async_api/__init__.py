"""An async API service on Quart for slow work: callers wait, poll, stream or get a callback."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .app import App, create_app
    from .errors import DatabaseUnavailable, InvalidInput, KeyReused, KeyTaken, QueueFull, QuotaExceeded, ServiceError
    from .from_code import open_service, submit, transaction
    from .http.contract.needs import Scope, needs
    from .http.contract.operations import Answer, operation
    from .http.delivery.delivers import delivers
    from .http.parts import resource
    from .problem_types import problem
    from .services.transactions import Submitted, Transaction
    from .settings import Settings
    from .tasks import Backoff, Task, TaskContext, ThreadContext, task

__all__ = [
    "Answer",
    "App",
    "Backoff",
    "DatabaseUnavailable",
    "InvalidInput",
    "KeyReused",
    "KeyTaken",
    "QueueFull",
    "QuotaExceeded",
    "Scope",
    "ServiceError",
    "Settings",
    "Submitted",
    "Task",
    "TaskContext",
    "ThreadContext",
    "Transaction",
    "__version__",
    "create_app",
    "delivers",
    "needs",
    "open_service",
    "operation",
    "problem",
    "resource",
    "submit",
    "task",
    "transaction",
]

# Imported when they are asked for: the command line answers --help without loading a web framework.
_HOMES = {
    "Answer": "http.contract.operations",
    "App": "app",
    "Backoff": "tasks",
    "DatabaseUnavailable": "errors",
    "InvalidInput": "errors",
    "KeyReused": "errors",
    "KeyTaken": "errors",
    "QueueFull": "errors",
    "QuotaExceeded": "errors",
    "Scope": "access.caller",
    "ServiceError": "errors",
    "Settings": "settings",
    "Submitted": "services.transactions",
    "Task": "tasks",
    "TaskContext": "tasks",
    "ThreadContext": "tasks",
    "Transaction": "services.transactions",
    "create_app": "app",
    "delivers": "http.delivery.delivers",
    "needs": "http.contract.needs",
    "open_service": "from_code",
    "operation": "http.contract.operations",
    "problem": "problem_types",
    "resource": "http.parts",
    "submit": "from_code",
    "task": "tasks",
    "transaction": "from_code",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("quart-async-api")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
