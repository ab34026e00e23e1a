"""@task, the registry, and the context of a run. A task module imports only this module of the service."""

import hashlib
import inspect
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_type_hints

from croniter import croniter
from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, create_model

from .errors import SettingsError

if TYPE_CHECKING:
    import httpx

    from .settings import Settings

ENTRY_POINTS = "quart_async_api.tasks"
MAX_CONCURRENCY = 10_000
DEFAULT_QUEUE = "default"
_WORD = re.compile(r"[^\W_]+")  # of a name: the rest is no part of the name of a schema
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # as a schema in OpenAPI, and as long as the column
_QUEUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

Resource = TypeVar("Resource")


class RunIn(StrEnum):
    LOOP = "loop"
    THREAD = "thread"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause before a retry in seconds: exponential, with full jitter."""

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 300.0

    def delay(self, failures: int, random_: random.Random) -> float:
        """Return a random pause, in seconds, before the attempt after `failures` failed attempts."""
        return random_.uniform(0, min(self.maximum, self.initial * self.factor ** min(failures - 1, 64)))


class TaskContext(Protocol):
    """The context of a run: ids, settings, clients, progress and log. They live as long as the process or the run."""

    @property
    def job_id(self) -> str:
        """Id of the job, the same in all attempts: use it to make side effects idempotent. A run without a job has one too."""

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""

    @property
    def cancelled(self) -> bool:
        """True if the run should stop. A coroutine is cancelled in addition; a function in a thread must check this."""

    @property
    def settings(self) -> "Settings": ...

    @property
    def http(self) -> "httpx.AsyncClient":
        """The HTTP client of the process, with a deadline, safe retries and limits."""

    def resource(self, kind: type[Resource]) -> Resource:
        """Return the instance of `kind` that the process has opened. If it has none, the job returns to the queue."""

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress to everyone who watches the job."""

    async def log(self, text: str) -> None:
        """Write a line to the log of the service and to the events of the job."""


class ThreadContext(Protocol):
    """TaskContext for a function in a thread: the same members, as plain methods."""

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def cancelled(self) -> bool: ...

    @property
    def settings(self) -> "Settings": ...

    def resource(self, kind: type[Resource]) -> Resource: ...

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None: ...

    def log(self, text: str) -> None: ...


TaskFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A function registered under a name, with typed arguments and result, and its retry policy.

    `arguments` is a model with a field for each keyword-only parameter; `result` checks and writes the return value.
    `timeout` is in seconds, for one attempt. `schedule` is a cron expression in UTC. At most `concurrency` jobs run at once
    in all processes; with `concurrency_key`, the name of an argument, at most as many for each of its values. `queue` is what
    `worker --queues` chooses by.
    """

    name: str
    function: TaskFunction
    summary: str
    arguments: type[BaseModel]
    result: TypeAdapter[Any]
    retries: int = 0
    backoff: Backoff = Backoff()
    timeout: float | None = None
    retryable: tuple[type[BaseException], ...] = ()
    run_in: RunIn = RunIn.LOOP
    schedule: str | None = None
    concurrency: int | None = None
    concurrency_key: str | None = None
    queue: str = DEFAULT_QUEUE

    def slot(self, arguments: BaseModel) -> str | None:
        """Return the name of the group of jobs that `concurrency` limits together, or None for no limit."""
        if self.concurrency is None or self.concurrency_key is None:
            return None if self.concurrency is None else self.name
        value = arguments.model_dump_json(include={self.concurrency_key})
        return f"{self.name} {hashlib.sha256(value.encode()).hexdigest()}"

    def values(self, arguments: BaseModel) -> dict[str, Any]:
        """Return the keyword arguments in an instance of `self.arguments`."""
        return {name: getattr(arguments, name) for name in type(arguments).model_fields}

    def __call__(self, context: TaskContext | ThreadContext, **arguments: Any) -> Any:
        """Call the function itself, from another task or a test."""
        return self.function(context, **arguments)


def task(
    name: str,
    *,
    retries: int = 0,
    backoff: Backoff = Backoff(),
    timeout: float | None = None,
    retryable: tuple[type[BaseException], ...] = (),
    run_in: str = RunIn.LOOP,
    schedule: str | None = None,
    concurrency: int | None = None,
    concurrency_key: str | None = None,
    queue: str = DEFAULT_QUEUE,
) -> Callable[[TaskFunction], Task]:
    """Register `async def function(ctx, *, argument: type, …) -> type` as a task, or a `def` with `run_in="thread"`.

    The name has 1 to 200 letters, digits, `-`, `_` and `.`. The first line of the docstring is the summary. After one of the
    exceptions in `retryable`, a job has up to `retries` more attempts; to retry timeouts, list TimeoutError. At most
    `concurrency` jobs run at once in all processes. With `concurrency_key`, this limit (default 1) applies to each value of
    that argument. Workers may serve some queues only.
    Raises TypeError or ValueError for another signature or an invalid option.
    """
    if not isinstance(name, str):
        raise TypeError('write @task("name"), with a name')
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"task {name[:200]!r}: the name must be 1 to 200 of a-z, A-Z, 0-9, ., _ and -, the first a letter or digit"
        )

    def register(function: TaskFunction) -> Task:
        where = RunIn(run_in)
        parameters = list(inspect.signature(function).parameters.values())
        with _made_by_pydantic(name):
            hints = get_type_hints(function, include_extras=True)
        fits = inspect.iscoroutinefunction(function) == (where is RunIn.LOOP)
        if not fits or not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY or "return" not in hints:
            form = "async def" if where is RunIn.LOOP else "def"
            raise TypeError(f"task {name!r}: write it as {form} {function.__name__}(ctx, *, argument: type) -> type")
        if retries < 0 or (timeout is not None and timeout <= 0):
            raise ValueError(f"task {name!r}: retries must be 0 or more, and timeout more than 0 s")
        if schedule is not None and not (len(schedule.split()) == 5 and croniter.is_valid(schedule)):
            raise ValueError(f"task {name!r}: {schedule!r} is not a cron expression of five fields, like */5 * * * *")
        fields: dict[str, Any] = {}
        for parameter in parameters[1:]:
            known = parameter.kind is parameter.KEYWORD_ONLY and parameter.name in hints
            if not known or parameter.name.startswith("_"):
                raise TypeError(
                    f"task {name!r}: argument {parameter.name} must be keyword-only, have a type, and begin with a letter"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        model_name = "".join(word.capitalize() for word in _WORD.findall(name)) + "Arguments"
        with _made_by_pydantic(name):
            arguments = create_model(model_name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
            result = TypeAdapter(hints["return"])
        if schedule is not None and any(field.is_required() for field in arguments.model_fields.values()):
            raise ValueError(f"task {name!r}: with a schedule, each argument needs a default")
        if concurrency_key is not None and concurrency_key not in fields:
            raise ValueError(f"task {name!r}: concurrency_key {concurrency_key!r} is not one of its arguments")
        bound = 1 if concurrency is None and concurrency_key is not None else concurrency
        if bound is not None and not 1 <= bound <= MAX_CONCURRENCY:
            raise ValueError(f"task {name!r}: concurrency must be from 1 to {MAX_CONCURRENCY}")
        if not is_queue(queue):
            raise ValueError(f"task {name!r}: queue {queue!r} must be up to 40 of a-z, 0-9, _ and -")
        summary = (inspect.getdoc(function) or name).splitlines()[0].rstrip(".")
        return Task(
            name,
            function,
            summary,
            arguments,
            result,
            retries,
            backoff,
            timeout,
            retryable,
            where,
            schedule,
            bound,
            concurrency_key,
            queue,
        )

    return register


@contextmanager
def _made_by_pydantic(name: str) -> Iterator[None]:
    """Raises TypeError with the name of the task for types that are unknown, or that pydantic has no schema of."""
    try:
        yield
    except (NameError, PydanticUserError, ValueError) as error:
        reason = str(error).partition(". ")[0]
        raise TypeError(
            f"task {name!r}: its types must be ones that pydantic knows, such as a BaseModel: {reason}"
        ) from error


def is_queue(name: str) -> bool:
    """Return whether a queue can have this name."""
    return _QUEUE.fullmatch(name) is not None


def load(names: Iterable[str]) -> list[ModuleType]:
    """Return the named modules, and those of installed packages in the entry-point group quart_async_api.tasks.

    Raises SettingsError if an import fails.
    """
    modules: list[ModuleType] = []
    for name in names:
        try:
            modules.append(import_here(name))
        except Exception as error:
            raise SettingsError(f"QAA_TASKS: {name} cannot be imported: {error}") from error
    for entry_point in _offered():
        try:
            modules.append(entry_point.load())
        except Exception as error:
            raise SettingsError(f"entry point {entry_point.value} cannot be imported: {error}") from error
    return modules


def import_here(name: str) -> ModuleType:
    """Import a module, also one of the current folder, as under `python -m`."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    return import_module(name)


@cache
def _offered() -> tuple[EntryPoint, ...]:
    # Cached: it reads the metadata of every installed package.
    return tuple(entry_points(group=ENTRY_POINTS))


def registry(sources: Iterable[ModuleType | Task]) -> Mapping[str, Task]:
    """Return these tasks, and those of these modules, by name.

    Raises SettingsError for what is neither, and for two tasks of the same name, or of the same schema in the OpenAPI document.
    """
    tasks: dict[str, Task] = {}  # by the names of their schemas
    for source in sources:
        if not isinstance(source, ModuleType | Task):
            raise SettingsError(f"tasks= has {source!r}: name a task, which @task makes, or a module with tasks")
        for found in (source,) if isinstance(source, Task) else vars(source).values():
            if not isinstance(found, Task) or (first := tasks.setdefault(found.arguments.__name__, found)) is found:
                continue
            where = found.function.__module__ if isinstance(source, Task) else source.__name__
            alike = "" if found.name == first.name else f" and {first.name!r}, which are the same in /openapi.json"
            raise SettingsError(f"two tasks are named {found.name!r}{alike}; the second is in {where}")
    return {task.name: task for task in tasks.values()}
