"""@task, the registry of tasks, and the context that a task runs in. A task module imports this and nothing of the service."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

if TYPE_CHECKING:
    import httpx

    from .settings import Settings

Resource = TypeVar("Resource")


class TaskContext(Protocol):
    """What a task may use besides its arguments: everything here lives as long as the process, or as the run."""

    @property
    def job_id(self) -> str:
        """The id of this run, the same for all attempts: make side effects idempotent by it."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""

    @property
    def settings(self) -> "Settings": ...

    @property
    def http(self) -> "httpx.AsyncClient":
        """The process's one HTTP client: deadline, safe retries and bounds are built in."""

    def resource(self, kind: type[Resource]) -> Resource:
        """The one instance of `kind` that was made at start. Raises LookupError where there is none."""

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the run is; whoever watches it sees it."""

    async def log(self, text: str) -> None:
        """Say what happened, for the service's log and whoever watches."""


TaskFunction = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A coroutine function registered under a name, with its arguments and result typed.

    `arguments` is a model with a field for each keyword-only parameter; `result` checks and writes the return value.
    """

    name: str
    function: TaskFunction
    summary: str
    arguments: type[BaseModel]
    result: TypeAdapter[Any]

    async def run(self, context: TaskContext, arguments: BaseModel) -> Any:
        """Call the function. `arguments` is an instance of `self.arguments`."""
        return await self.function(context, **{name: getattr(arguments, name) for name in type(arguments).model_fields})

    def __call__(self, context: TaskContext, **arguments: Any) -> Awaitable[Any]:
        """A task stays callable as the function that it is, from other tasks and from tests."""
        return self.function(context, **arguments)


def task(name: str) -> Callable[[TaskFunction], Task]:
    """Make a task of `async def function(ctx, *, argument: type, …) -> type`.

    The first line of its docstring is its summary. Raises TypeError where the function has not that shape.
    """

    def register(function: TaskFunction) -> Task:
        positional = [
            one for one in inspect.signature(function).parameters.values() if one.kind is not one.KEYWORD_ONLY
        ]
        parameters = list(inspect.signature(function).parameters.values())[1:]
        hints = get_type_hints(function, include_extras=True)
        if not inspect.iscoroutinefunction(function) or not positional or "return" not in hints:
            raise TypeError(f"task {name!r}: write it as async def {function.__name__}(ctx, *, argument: type) -> type")
        fields: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name not in hints:
                raise TypeError(f"task {name!r}: argument {parameter.name} must be keyword-only and have a type")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        model_name = "".join(word.capitalize() for word in name.replace("_", "-").split("-")) + "Arguments"
        arguments = create_model(model_name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
        summary = (inspect.getdoc(function) or name).splitlines()[0].rstrip(".")
        return Task(name, function, summary, arguments, TypeAdapter(hints["return"]))

    return register


def registry(modules: Iterable[ModuleType]) -> Mapping[str, Task]:
    """The tasks of these modules by name. Raises ValueError where two have one name."""
    tasks: dict[str, Task] = {}
    for module in modules:
        for found in vars(module).values():
            if isinstance(found, Task) and tasks.setdefault(found.name, found) is not found:
                raise ValueError(f"two tasks are named {found.name!r}; the second is in {module.__name__}")
    return tasks
