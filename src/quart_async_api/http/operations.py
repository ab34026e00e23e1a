"""@operation: a route's contract in one decorator. It checks the input and is what the OpenAPI document is made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from pydantic import BaseModel

from ..errors import InvalidInput, ServiceError
from .inputs import read_body, read_query

View = Callable[..., Awaitable[Any]]

ATTRIBUTE = "__operation__"


@dataclass(frozen=True, slots=True)
class Answer:
    """One successful answer. `shape` is a type that pydantic can describe; None: no body."""

    description: str
    shape: Any = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    summary: str
    description: str
    tag: str
    answers: Mapping[int, tuple[Answer, ...]]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    headers: Mapping[str, str]
    errors: tuple[type[ServiceError], ...]
    deprecated: bool


def operation(
    tag: str,
    summary: str,
    *,
    answers: Mapping[int, Answer | tuple[Answer, ...]],
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    errors: tuple[type[ServiceError], ...] = (),
    deprecated: bool = False,
) -> Callable[[View], View]:
    """Give the view `query` and `body` as keyword arguments, checked, and say what it answers.

    `headers` are the request headers that it heeds, with what each does; `errors` what it may raise besides InvalidInput.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def read(*args: Any, **kwargs: Any) -> Any:
            if query is not None:
                kwargs["query"] = read_query(query)
            if body is not None:
                kwargs["body"] = await read_body(body)
            return await view(*args, **kwargs)

        reads = (InvalidInput,) if query is not None or body is not None else ()
        described = Operation(
            summary,
            (view.__doc__ or "").strip(),
            tag,
            {status: answer if isinstance(answer, tuple) else (answer,) for status, answer in answers.items()},
            query,
            body,
            headers or {},
            (*reads, *errors),
            deprecated,
        )
        setattr(read, ATTRIBUTE, described)
        return read

    return decorate
