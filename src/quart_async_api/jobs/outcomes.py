"""The outcome of a run, with or without a waiting caller: a result, or an error with its problem document."""

import asyncio
import contextlib
import contextvars
import json
import logging
import math
import re
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ..db.failures import as_unavailable
from ..errors import ArgumentsOutdated, ResourceMissing, ResultUnusable, ServiceError, TaskFailed, TaskTimeout
from ..problem_types import describe
from ..tasks import RunIn, Task, TaskContext
from ..upstream.client import UPSTREAM_ERRORS, translate
from ..validation import validator

log = logging.getLogger(__name__)

_NO_LIMIT = contextlib.nullcontext()
_SUSPICIOUS = re.compile(rb"NaN|Infinity|\d{4000}")  # some models write these, but JSON parsers may refuse them

Resource = TypeVar("Resource")


def known(error: BaseException) -> ServiceError | None:
    """Return the service's error for an exception of a task or a handler; None for a fault of its code."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, UPSTREAM_ERRORS):
        return translate(error)
    return as_unavailable(error)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """`result` is JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Unready:
    """The process has no `resource` for the task: the attempt does not count."""

    resource: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`error` is a problem document as JSON text. `reason` and the traceback of `cause` are for the log.

    `kind`: the name of the exception of a fault of the code, else of the type of the problem.
    """

    error: str
    retryable: bool
    reason: str
    cause: BaseException | None
    kind: str

    @classmethod
    def by(cls, error: ServiceError, *, retryable: bool = False, cause: BaseException | None = None) -> Self:
        """Describe `error`. Its `cause`, by default itself, is for the log where it is a fault of the code (500)."""
        try:
            problem = describe(error)
        except Exception:  # a subclass of the app without the members of its parent
            log.exception("%s cannot be described", type(error).__name__)
            problem = describe(TaskFailed(f"the task raised {type(error).__name__}"))
        shown = (cause or error) if problem["status"] == HTTPStatus.INTERNAL_SERVER_ERROR else None
        kind = str(problem["type"]).rpartition("/")[2] if shown is None else type(shown).__name__
        return cls(json.dumps(problem), retryable, f"{problem['title']}: {problem['detail']}", shown, kind)


Outcome = Succeeded | Unready | Failed


async def attempt(task: Task, context: TaskContext, arguments: str, seconds: float | None, max_bytes: int) -> Outcome:
    """Run a task once on stored arguments. Raises nothing except CancelledError."""
    try:
        try:
            given = validator(task.arguments).validate_json(arguments, by_alias=True, by_name=True)
        except ValidationError as error:
            raise ArgumentsOutdated(
                f"the task takes other arguments since the last deployment: {_first(error)}"
            ) from None
        return Succeeded(as_json(task, await call(task, context, given, seconds), max_bytes))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if (missing := missed(error)) is not None:
            return Unready(missing.name)
        return Failed.by(failure(error), retryable=isinstance(error, task.retryable), cause=error)


def failure(error: BaseException) -> ServiceError:
    """Return the error that callers see for a run that raised `error`."""
    return known(error) or missed(error) or TaskFailed(f"the task raised {type(error).__name__}")


def missed(error: BaseException) -> ResourceMissing | None:
    """Return the missing resource that led to `error`: itself, a member of its group, its cause or its context.

    Return None for a timeout of the run, and if the task raised `error` with `from None`.
    """
    seen: set[int] = set()
    open_ends: list[BaseException | None] = [error]
    while open_ends:
        one = open_ends.pop()
        if one is None or id(one) in seen or isinstance(one, TaskTimeout):
            continue
        if isinstance(one, ResourceMissing):
            return one
        seen.add(id(one))
        open_ends.append(one.__cause__ if one.__suppress_context__ else one.__context__)
        if isinstance(one, BaseExceptionGroup):
            open_ends += one.exceptions
    return None


async def call(task: Task, context: TaskContext, arguments: BaseModel, seconds: float | None) -> Any:
    """Run a task to its return value. Raises what it raises, TaskTimeout past `timeout` seconds, and TaskFailed for an exit."""
    limit = None if seconds is None else asyncio.timeout(seconds)
    try:
        # Awaited directly, not as an asyncio task: there, a SystemExit would end the whole loop.
        async with limit or _NO_LIMIT:
            if task.run_in is RunIn.THREAD:
                return await _in_thread(task, context, arguments)
            return await task.function(context, **task.values(arguments))
    except TimeoutError as error:
        if limit is not None and limit.expired():
            raise TaskTimeout(f"the task took longer than {seconds:g} s") from error
        raise
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise TaskFailed(f"the task raised {type(error).__name__}") from error


def as_json(task: Task, value: Any, max_bytes: int) -> str:
    """Return the result as JSON text, the same in all responses.

    Raises ResultUnusable if it does not match the declared type, is too long, or is not valid JSON.
    """
    try:
        text = task.result.dump_json(value, by_alias=True, warnings="error")  # as the task's result schema says
        if b"null" in text and not is_finite(task.result.dump_python(value)):
            raise ValueError("JSON has no NaN and no infinities")  # pydantic would write null
        if _SUSPICIOUS.search(text):
            from_json(text, allow_inf_nan=False)
    except Exception as error:
        raise ResultUnusable("the result is not JSON of the declared type") from error
    if len(text) > max_bytes:
        raise ResultUnusable(f"the task returned {len(text)} bytes of JSON; QAA_RESULT_MAX_BYTES allows {max_bytes}")
    return text.decode()


def is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite, as JSON requires."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, (list, tuple, set, frozenset)) or all(map(is_finite, value))


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


class _PlainContext:
    """The context of a task for its thread. Each call runs on the event loop and waits for the result."""

    def __init__(self, context: TaskContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.left = False  # nothing waits for the thread any longer
        self.job_id, self.attempt, self.settings = context.job_id, context.attempt, context.settings

    @property
    def cancelled(self) -> bool:
        return self.left or self._context.cancelled

    def resource(self, kind: type[Resource]) -> Resource:
        return self._context.resource(kind)

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        asyncio.run_coroutine_threadsafe(self._context.progress(current, total, message), self._loop).result()

    def log(self, text: str) -> None:
        asyncio.run_coroutine_threadsafe(self._context.log(text), self._loop).result()


async def _in_thread(task: Task, context: TaskContext, arguments: BaseModel) -> Any:
    # A new daemon thread: if it never returns, it blocks neither a pool nor the exit of the process.
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(value)
        else:
            # A future takes no StopIteration.
            fits = isinstance(error, Exception) and not isinstance(error, StopIteration)
            outcome.set_exception(error if fits else TaskFailed(f"the task raised {type(error).__name__}"))

    def run() -> None:
        value, error = None, None
        try:
            value = task.function(cast("Any", plain), **task.values(arguments))
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    def report() -> None:
        if thread.is_alive():
            log.error(
                "task %s in job %s does not stop: its thread is abandoned and runs until the function returns",
                task.name,
                context.job_id,
                extra={"job_id": context.job_id, "task": task.name, "attempt": context.attempt},
            )

    plain = _PlainContext(context, loop)
    within = contextvars.copy_context()
    thread = threading.Thread(target=within.run, args=(run,), name=f"task {task.name}", daemon=True)
    thread.start()
    try:
        return await outcome
    except asyncio.CancelledError:
        plain.left = True
        loop.call_later(context.settings.cancel_seconds, report)
        raise
