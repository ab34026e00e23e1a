"""@operation: the contract of a route in one decorator. It checks the input and feeds the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, wraps
from inspect import cleandoc, iscoroutinefunction, signature
from typing import Any

from pydantic import BaseModel, TypeAdapter
from quart import Response, request
from werkzeug.wrappers import Response as WerkzeugResponse

from ...errors import InvalidInput, ServiceError
from ...problem_types import ProblemType
from ...validation import checked
from ..json import JSON, JsonResponse
from .inputs import read_body, read_query

View = Callable[..., Awaitable[Any]]
Refusal = type[ServiceError] | ProblemType

ATTRIBUTE = "__operation__"


@dataclass(frozen=True, slots=True)
class Answer:
    """One successful response. `shape` is a type that pydantic can describe, or None for no body.

    `example` is a body; if None, it is made from the examples of the members of the shape.
    """

    description: str
    shape: Any = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    example: Any = None


class CallbackUrl(StrEnum):
    """Place of the callback URL in a request, as a runtime expression (OpenAPI 3.1, section 4.8.20.3)."""

    QUERY = "$request.query.callback_url"
    BODY = "$request.body#/callback_url"


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of a WebSocket, `sent` and `received` by the server, and its close codes."""

    sent: Any
    received: Any
    close_codes: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """The contract of a route. `arguments` are in its path, body or query: see arguments.py."""

    summary: str
    description: str
    tag: str
    answers: Mapping[int, tuple[Answer, ...]]
    path: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_is_optional: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[Refusal, ...] = ()
    deprecated: bool = False
    callback: CallbackUrl | None = None
    messages: Messages | None = None
    arguments: type[BaseModel] | None = None


def operation(
    tag: str,
    summary: str,
    *,
    answers: Mapping[int, Answer | tuple[Answer, ...]],
    path: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    body_is_optional: bool = False,
    headers: Mapping[str, str] | None = None,
    errors: tuple[Refusal, ...] = (),
    deprecated: bool = False,
    callback: CallbackUrl | None = None,
) -> Callable[[View], View]:
    """Declare the contract of a view, and pass it the checked `path`, `query` and `body` as keyword arguments.

    `path` has a field for each parameter of the route. What the view returns, unless it is a response, is checked against the
    JSON answer of its status, and sent as that. `body_is_optional`: an empty body is a model with its
    defaults. `headers`: request headers that it uses, with their effect. `errors`: its errors besides InvalidInput.
    `callback`: place of the callback URL in the request, for the events of the job that it starts.
    Raises TypeError for a view that is no `async def`.
    """

    def decorate(view: View) -> View:
        if not iscoroutinefunction(view):
            raise TypeError(f"@operation: write {view.__name__} as an async def")

        @wraps(view)
        async def read(*args: Any, **kwargs: Any) -> Any:
            if path is not None:
                kwargs["path"] = checked(path, {name: kwargs.pop(name) for name in path.model_fields if name in kwargs})
            if query is not None:
                kwargs["query"] = read_query(query)
            if body is not None:
                is_empty = body_is_optional and not await request.get_data()
                kwargs["body"] = body() if is_empty else await read_body(body)
            returned = await view(*args, **kwargs)
            return returned if is_answered else _written(returned, each_answer)

        each_answer = {status: answer if isinstance(answer, tuple) else (answer,) for status, answer in answers.items()}
        is_answered = signature(view).return_annotation is Response
        reads_none = path is None and query is None and body is None
        described = Operation(
            summary,
            cleandoc(view.__doc__ or ""),
            tag,
            each_answer,
            path,
            query,
            body,
            body_is_optional,
            headers or {},
            errors if reads_none else (InvalidInput, *errors),
            deprecated,
            callback,
        )
        declared = view if reads_none and is_answered else read
        setattr(declared, ATTRIBUTE, described)
        return declared

    return decorate


def _written(returned: Any, answers: Mapping[int, tuple[Answer, ...]]) -> Any:
    """Return what a view has returned, with its body as the answer of its status says, if that is one of JSON alone."""
    body, *rest = returned if isinstance(returned, tuple) else (returned,)
    if isinstance(body, WerkzeugResponse | Response):
        return returned
    declared = answers.get(next((part for part in rest if isinstance(part, int)), 200), ())
    if len(declared) != 1 or declared[0].shape is None or declared[0].media_type != JSON:
        return returned
    adapter = _adapter(declared[0].shape)
    # Also of an object with these attributes. Raises ValidationError, which is a fault of the view.
    checked_body = adapter.validate_python(body, from_attributes=True, by_alias=True, by_name=True)
    sent = JsonResponse(adapter.dump_json(checked_body, by_alias=True))
    return (sent, *rest) if rest else sent


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)


def socket(
    tag: str, summary: str, messages: Messages, *, query: type[BaseModel], errors: tuple[Refusal, ...] = ()
) -> Callable[[View], View]:
    """Declare the messages of a WebSocket's view. The view reads its query itself, because it never refuses one."""

    def decorate(view: View) -> View:
        opened = {101: (Answer("Switched to the WebSocket protocol"),)}
        description = cleandoc(view.__doc__ or "")
        setattr(
            view, ATTRIBUTE, Operation(summary, description, tag, opened, query=query, errors=errors, messages=messages)
        )
        return view

    return decorate
