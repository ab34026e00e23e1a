"""The problem types of an app: the service's, and those of the errors that its routes declare."""

from collections.abc import Iterator, Mapping

from quart import Quart, current_app

from ...errors import StartupError
from ...problem_types import TYPES, ProblemType, imported, type_of
from .operations import ATTRIBUTE, Operation

_FOUND = "quart_async_api.problem_types"  # among the extensions of an app


def problem_types(app: Quart) -> Mapping[str, ProblemType]:
    """Return them by slug. Raises StartupError for two of the same slug. Call it when all routes are registered."""
    if _FOUND not in app.extensions:
        found = dict(TYPES)
        for error in {error for contract in _contracts(app) for error in contract.errors if isinstance(error, type)}:
            kind = type_of(error)
            if found.setdefault(kind.slug, kind) != kind:
                raise StartupError(f"two errors have the problem type {kind.slug!r}; one is {error.__qualname__}")
        app.extensions[_FOUND] = found
    types: Mapping[str, ProblemType] = app.extensions[_FOUND]
    return types


def problem_type(slug: str) -> ProblemType | None:
    """Return the type of this slug in the current app, also of an error that no route declares, which a task may raise."""
    return problem_types(current_app).get(slug) or imported(slug)


def _contracts(app: Quart) -> Iterator[Operation]:
    for view in app.view_functions.values():
        view_class = getattr(view, "view_class", None)
        for handler in (view,) if view_class is None else vars(view_class).values():
            if (contract := getattr(handler, ATTRIBUTE, None)) is not None:
                yield contract
