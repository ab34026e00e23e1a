"""The problems of the OpenAPI document: their shape, their examples, and the responses that have them."""

from collections.abc import Iterable
from typing import Any

from ...errors import DatabaseUnavailable, InvalidInput, NestingTooDeep, ShuttingDown
from ...problem_types import BY_ERROR, BY_STATUS, CONTENT_TYPE, TYPES, ProblemType, type_of
from .operations import Operation

Json = dict[str, Any]

EVERY_ANSWER = ("X-Request-ID", "RateLimit", "RateLimit-Policy")
ADDRESS = {"type": "string", "format": "uri-reference"}

# Errors of any operation: refusals before the view, or failures of its dependencies.
ANYWHERE = (
    *(kind for kind in TYPES.values() if kind.status in (401, 403, 429)),
    *(BY_STATUS[status] for status in (408, 413, 414, 421, 431, 500)),
    BY_ERROR[DatabaseUnavailable],
    BY_ERROR[ShuttingDown],
)


def problems_of(contract: Operation) -> Json:
    """Return the responses of an operation that are problems, by status."""
    kinds = _kinds(contract)
    inline = contract.messages is not None  # a component is what an operation uses, and a WebSocket is none
    own = {kind.status for kind in kinds} | set(contract.answers)
    return {
        str(status): _problem_response(same, inline=inline)
        if status in own
        else {"$ref": f"#/components/responses/{_shared(status)}"}
        for status, same in _by_status((*kinds, *ANYWHERE))
    }


def _kinds(contract: Operation) -> list[ProblemType]:
    kinds = [error if isinstance(error, ProblemType) else type_of(error) for error in contract.errors]
    if contract.body is not None:
        kinds += [BY_STATUS[400], BY_ERROR[NestingTooDeep], BY_STATUS[413], BY_STATUS[415]]
    if contract.messages is not None:
        kinds.append(BY_STATUS[426])
    return kinds


def shared_responses() -> Json:
    """Return the responses of ANYWHERE, as components."""
    return {_shared(status): _problem_response(kinds) for status, kinds in _by_status(ANYWHERE)}


def problem_examples(contracts: Iterable[Operation]) -> Json:
    """Return an example of every problem type that these operations answer with, by slug, as components."""
    used = {kind.slug: kind for kind in (*ANYWHERE, *(kind for contract in contracts for kind in _kinds(contract)))}
    kinds = {**{slug: kind for slug, kind in TYPES.items() if slug in used}, **used}  # the service's in their order
    return {slug: _problem_example(kind) for slug, kind in kinds.items()}


def _by_status(kinds: tuple[ProblemType, ...]) -> list[tuple[int, list[ProblemType]]]:
    by_status: dict[int, list[ProblemType]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(kind.status, []).append(kind)
    return sorted(by_status.items())


def _shared(status: int) -> str:
    return f"Problem{status}"


def _problem_response(kinds: list[ProblemType], *, inline: bool = False) -> Json:
    retried = ["Retry-After"] if kinds[0].status in (429, 503) else []
    examples = {
        kind.slug: _problem_example(kind) if inline else {"$ref": f"#/components/examples/{kind.slug}"}
        for kind in kinds
    }
    return {
        "description": " or ".join(kind.title for kind in kinds),
        "headers": header_refs(*EVERY_ANSWER, *retried),
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def _problem_example(kind: ProblemType) -> Json:
    described: Json = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.explanation.partition(". ")[0].rstrip(".") + ".",
        "instance": "/the/path",
        "request_id": "4b0f9a2c6d1e4f7a8b3c5d6e7f809a1b",
        "error": kind.title,
    }
    if kind is BY_ERROR[InvalidInput]:
        described["errors"] = [{"pointer": "#/name", "detail": "Field required"}]
    return {"summary": kind.title, "value": described}


def header_refs(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
