"""Imports of libraries without the parts that cost the start time and memory, and that nothing here uses."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


@contextmanager
def without_sources() -> Iterator[None]:
    """Let no class that is defined inside look up its own source, as Tortoise's models do for comments with `#:`."""

    def refuse(object: Any) -> NoReturn:
        raise OSError("not looked up")

    getsource, inspect.getsource = inspect.getsource, refuse
    try:
        yield
    finally:
        inspect.getsource = getsource


@contextmanager
def without_module(name: str) -> Iterator[None]:
    """Let the import of this optional module fail inside, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system documents for this
    try:
        yield
    finally:
        del sys.modules[name]
