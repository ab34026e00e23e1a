"""Resources of an app: each is opened once, before the first job runs, found by its type, and closed after the last job."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import Parameter, signature
from typing import Any, TypeVar, cast

from .errors import ResourceMissing, ServiceError, StartupError
from .settings import Settings

Resource = TypeVar("Resource")
Opener = Callable[..., AbstractAsyncContextManager[Any]]  # of the settings, or of nothing


def takes_settings(opener: Opener) -> bool:
    """Return whether it is called with the settings. Raises TypeError if it has more parameters without a default."""
    wanted = [
        parameter
        for parameter in signature(opener).parameters.values()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    if len(wanted) > 1 or any(parameter.kind is Parameter.KEYWORD_ONLY for parameter in wanted):
        raise TypeError(
            f"resource {_name(opener)}: write it as an async context manager of the settings, or of nothing"
        )
    return bool(wanted)


@asynccontextmanager
async def opening(opener: Opener, settings: Settings, others: Mapping[type, object]) -> AsyncIterator[object]:
    """Open a resource of another type than the `others`. Raises StartupError with its name."""
    try:
        manager = opener(settings) if takes_settings(opener) else opener()
        resource = await manager.__aenter__()
    except ServiceError:
        raise
    except Exception as error:
        raise StartupError(f"resource {_name(opener)} cannot be opened: {type(error).__name__}: {error}") from error
    try:
        if resource is None:
            raise StartupError(f"resource {_name(opener)} yields None: yield what tasks and routes ask for")
        if type(resource) in others:
            raise StartupError(
                f"resource {_name(opener)} is a second {type(resource).__name__}: give it a type of its own"
            )
        yield resource
    finally:
        # As at a stop, whatever fails elsewhere: an error would be raised at its `yield`, and pass over what comes after it.
        await manager.__aexit__(None, None, None)


def found(resources: Mapping[type, object], kind: type[Resource]) -> Resource:
    """Return the resource of exactly this type. Raises ResourceMissing."""
    try:
        return cast("Resource", resources[kind])
    except KeyError:
        raise ResourceMissing(kind.__name__) from None


def _name(opener: Opener) -> str:
    return f"{opener.__module__}.{getattr(opener, '__qualname__', type(opener).__name__)}"
