"""The contract as documents: OpenAPI for programs, /docs and /problems/ for people, from packaged files alone."""

from typing import TYPE_CHECKING, Any, cast

from quart import Blueprint, Quart, Response, current_app, render_template, request
from werkzeug.exceptions import NotFound

from ...problem_types import BY_STATUS, TYPES
from ..openapi import ANYWHERE, document
from ..operations import Answer, operation
from ..reference import operations

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

blueprint = Blueprint("contract", __name__)

TAG = "Documents"
_FIRST = ("Tutorial", "Users", "Jobs")
_BUILT = "quart_async_api.openapi"


def openapi_document() -> bytes:
    """The OpenAPI document of the current app, as JSON."""
    # Built at the first request for it, when every route is there, and kept: it costs tens of milliseconds.
    if _BUILT not in current_app.extensions:
        current_app.extensions[_BUILT] = document(cast("LocalProxy[Quart]", current_app)._get_current_object())
    return cast("bytes", current_app.extensions[_BUILT])


@blueprint.get("/openapi.json")
@operation(
    TAG,
    "The OpenAPI document",
    answers={200: Answer("OpenAPI 3.1", dict[str, Any], example={"openapi": "3.1.0", "paths": {}})},
)
async def openapi() -> Response:
    """The same as `quart-async-api openapi` prints."""
    return Response(openapi_document(), content_type="application/json")


@blueprint.get("/docs")
@operation(TAG, "Read the documentation", answers={200: Answer("A page", str, "text/html")})
async def docs() -> str:
    """Every route, made from the OpenAPI document; needs no script and no internet access."""
    described = operations(openapi_document())
    tags = sorted(
        {each.tag for each in described}, key=lambda tag: (_FIRST.index(tag) if tag in _FIRST else len(_FIRST), tag)
    )
    groups = [(tag, [each for each in described if each.tag == tag]) for tag in tags]
    return await render_template(
        "docs.html",
        groups=groups,
        anywhere=sorted({kind.status for kind in ANYWHERE}),
        base=request.host_url.rstrip("/"),
    )


@blueprint.get("/problems/")
@operation(TAG, "List the types of problems", answers={200: Answer("A page", str, "text/html")})
async def problems() -> str:
    """What can go wrong, and what to do then."""
    return await render_template(
        "problems.html", kinds=sorted(TYPES.values(), key=lambda kind: (kind.status, kind.slug))
    )


@blueprint.get("/problems/<slug>")
@operation(
    TAG,
    "Read about a type of problem",
    answers={200: Answer("A page", str, "text/html")},
    errors=(BY_STATUS[404],),
)
async def problem_page(slug: str) -> str:
    """The address that a problem's `type` names."""
    if slug not in TYPES:
        raise NotFound("There is no problem type of this name; /problems/ lists them.")
    return await render_template("problem.html", kind=TYPES[slug])
