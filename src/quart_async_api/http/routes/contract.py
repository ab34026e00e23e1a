"""The contract as documents: OpenAPI for programs, /docs and /problems/ for people. Uses packaged files only."""

from collections.abc import Container
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, cast

from markupsafe import Markup
from quart import Blueprint, Quart, Response, current_app, render_template, request
from werkzeug.exceptions import NotFound

from ...problem_types import BY_STATUS, all_types
from ...web.reference import NAME, reference
from ..contract.openapi import ANYWHERE, document
from ..contract.operations import Answer, operation

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

blueprint = Blueprint("contract", __name__)

TAG = "Documents"
_FIRST = ("Tutorial", "Users", "Jobs")
_BUILT = "quart_async_api.openapi"


def openapi_document() -> bytes:
    """Return the OpenAPI document of the current app, as JSON."""
    # Built at the first request, when all routes are registered, and kept: building takes tens of milliseconds.
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
    """`quart-async-api openapi` prints the same document."""
    return Response(openapi_document(), content_type="application/json")


@blueprint.get("/docs")
@operation(TAG, "Read the documentation", answers={200: Answer("A page", str, "text/html")})
async def docs() -> str:
    """Describes every route. Works without scripts and without internet access."""
    described = reference(openapi_document())
    tags = sorted(
        {each.tag for each in described.operations},
        key=lambda tag: (_FIRST.index(tag) if tag in _FIRST else len(_FIRST), tag),
    )
    groups = [(tag, [each for each in described.operations if each.tag == tag]) for tag in tags]
    return await render_template(
        "docs.html",
        groups=groups,
        common=described,
        linked=lambda shape: _linked(shape, described.shapes),
        anywhere=sorted({kind.status for kind in ANYWHERE}),
        base=request.host_url.rstrip("/"),
    )


def _linked(shape: str, known: Container[str]) -> Markup:
    """Return the text of a shape, in which each name of a known shape links to it."""
    link = Markup('<a href="#shape-{0}">{0}</a>').format
    names = [link(name) if name in known else name for name in NAME.findall(shape)]
    return Markup("").join(chain.from_iterable(zip_longest(NAME.split(shape), names, fillvalue="")))


@blueprint.get("/problems/")
@operation(TAG, "List the problem types", answers={200: Answer("A page", str, "text/html")})
async def problems() -> str:
    """Lists every problem type with its explanation."""
    return await render_template(
        "problems.html", kinds=sorted(all_types().values(), key=lambda kind: (kind.status, kind.slug))
    )


@blueprint.get("/problems/<slug>")
@operation(
    TAG,
    "Read about a problem type",
    answers={200: Answer("A page", str, "text/html")},
    errors=(BY_STATUS[404],),
)
async def problem_page(slug: str) -> str:
    """The `type` of a problem is the address of this page."""
    kind = all_types().get(slug)
    if kind is None:
        raise NotFound("No problem type has this name; /problems/ lists all types.")
    return await render_template("problem.html", kind=kind)
