"""Runs a coroutine until it waits for the first time: work that does not wait needs neither a task nor a timer."""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
Steps = Coroutine[Any, Any, T] | Generator[Any, Any, T]


class Begun(Generic[T]):
    """A coroutine that has run up to its first wait, in the task that made this. `is_done`: it has not waited at all.

    One that is not done must be awaited, in the same task. Making one raises what the coroutine raises.
    """

    def __init__(self, coroutine: Steps[T]) -> None:
        self._coroutine = coroutine
        self.is_done = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self.is_done = True
            self._result = cast("T", end.value)

    def __await__(self) -> Generator[Any, Any, T]:
        if self.is_done:
            return self._result
        rest, self._waits_for = _Rest(self._coroutine, self._waits_for), None  # not kept: a future keeps its result
        return (yield from rest)


class _Rest(Generator[Any, Any, T]):
    """The rest of a coroutine, from its first wait on."""

    def __init__(self, coroutine: Steps[T], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._first = [waits_for]

    def send(self, value: Any) -> Any:
        return self._first.pop() if self._first else self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()
