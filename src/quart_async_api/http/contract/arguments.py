"""Places of a task's arguments in a request: the path, else the JSON body (POST, PUT, PATCH), else the query."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, create_model
from quart import request

from ...errors import FieldError, InvalidInput
from ...validation import checked
from .inputs import read_json, read_query
from .operations import Operation

Options = TypeVar("Options", bound=BaseModel)

IN_BODY = frozenset({"POST", "PUT", "PATCH"})


async def read_arguments(
    model: type[BaseModel], options: type[Options], path: Mapping[str, object]
) -> tuple[BaseModel, Options]:
    """Return the arguments of a request, of which `path` has some, and the `options` in its query.

    Raises InvalidInput with `#/name` for an argument, wherever it is, and what `read_body` raises.
    """
    if request.method not in IN_BODY:
        sent = read_query(_in_query(model, options, tuple(path)), path)
        named = {name: getattr(sent, name) for name in model.model_fields}
        return model.model_construct(**named), cast("Options", sent)
    wish = read_query(options)
    rest = _rest(model, path)
    body = await read_json() if rest and (_is_required(model, rest) or await request.get_data()) else {}
    if isinstance(body, dict):
        if twice := sorted(body.keys() & path.keys()):
            raise InvalidInput(*(FieldError(f"#/{name}", "Is in the path: leave it out of the body") for name in twice))
        body = {**body, **path}
    return checked(model, body), wish


def placed(contract: Operation, method: str, path: Collection[str]) -> Operation:
    """Return the contract of a route with the arguments of its task where this method has them; `path` are those there."""
    model = contract.arguments
    if model is None:
        return contract
    rest = _rest(model, path)
    in_path = _part(model, tuple(path), "InPath") if path else None
    if method not in IN_BODY:
        query = _part(model, rest, "InQuery")
        if contract.query:
            query = _joined(query, contract.query)
        return replace(contract, path=in_path, query=query)
    body = _part(model, rest, "InBody") if rest else None
    return replace(contract, path=in_path, body=body, body_is_optional=not _is_required(model, rest))


def _rest(model: type[BaseModel], path: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in model.model_fields if name not in path)


def _is_required(model: type[BaseModel], names: Collection[str]) -> bool:
    return any(model.model_fields[name].is_required() for name in names)


@cache
def _part(model: type[BaseModel], names: tuple[str, ...], suffix: str) -> type[BaseModel]:
    """Return a model of these fields of `model`, or `model` itself if they are all."""
    if len(names) == len(model.model_fields) and suffix == "InBody":
        return model
    fields: dict[str, Any] = {name: (model.model_fields[name].annotation, model.model_fields[name]) for name in names}
    return create_model(f"{model.__name__}{suffix}", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


@cache
def _in_query(model: type[BaseModel], options: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel]:
    """Return a model of the options and of all arguments: it checks those of the `path` too."""
    return _joined(_part(model, (*_rest(model, path), *path), "InQuery"), options)


@cache
def _joined(arguments: type[BaseModel], options: type[BaseModel]) -> type[BaseModel]:
    return create_model(arguments.__name__, __base__=(arguments, options))
