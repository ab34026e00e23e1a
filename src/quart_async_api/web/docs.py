"""The contract as pages for people: /docs and /problems/. Uses packaged files only."""

from collections.abc import Container
from itertools import chain, zip_longest

from markupsafe import Markup
from quart import Blueprint, current_app, render_template, request
from werkzeug.exceptions import NotFound

from ..http.contract.app_problems import problem_type, problem_types
from ..http.contract.needs import Scope, needs
from ..http.contract.openapi import openapi_document
from ..http.contract.openapi_problems import ANYWHERE
from ..http.contract.operations import Answer, operation
from ..problem_types import BY_STATUS
from .reference import NAME, by_tag, reference

blueprint = Blueprint("docs", __name__)

TAG = "Documents"
_PAGE = Answer("A page", str, "text/html")


@blueprint.get("/docs")
@needs(Scope.READ)
@operation(TAG, "Read the documentation", answers={200: _PAGE})
async def docs() -> str:
    """Lists every route. Works without scripts and without internet access."""
    return await render_template(
        "docs.html",
        groups=by_tag(reference(openapi_document()).operations),
        anywhere=sorted({kind.status for kind in ANYWHERE}),
    )


@blueprint.get("/docs/<operation_id>")
@needs(Scope.READ)
@operation(TAG, "Read about a route", answers={200: _PAGE}, errors=(BY_STATUS[404],))
async def about(operation_id: str) -> str:
    """Describes one route, with the shapes in its responses."""
    described = reference(openapi_document())
    found = next((each for each in described.operations if each.id == operation_id), None)
    if found is None:
        raise NotFound("No route has this name; /docs lists all routes.")
    return await render_template(
        "docs_operation.html",
        groups=by_tag(described.operations),
        each=found,
        shapes=described.shapes_of(found),
        linked=lambda shape: _linked(shape, described.shapes),
        base=request.host_url.rstrip("/"),
    )


def _linked(shape: str, known: Container[str]) -> Markup:
    """Return the text of a shape, in which each name of a known shape links to it."""
    link = Markup('<a href="#shape-{0}">{0}</a>').format
    names = [link(name) if name in known else name for name in NAME.findall(shape)]
    return Markup("").join(chain.from_iterable(zip_longest(NAME.split(shape), names, fillvalue="")))


@blueprint.get("/problems", strict_slashes=False)
@needs(open=True)
@operation(TAG, "List the problem types", answers={200: _PAGE})
async def problems() -> str:
    """Lists every problem type with its explanation."""
    return await render_template(
        "problems.html", kinds=sorted(problem_types(current_app).values(), key=lambda kind: (kind.status, kind.slug))
    )


@blueprint.get("/problems/<slug>")
@needs(open=True)
@operation(
    TAG,
    "Read about a problem type",
    answers={200: _PAGE},
    errors=(BY_STATUS[404],),
)
async def problem_page(slug: str) -> str:
    """The `type` of a problem is the address of this page."""
    kind = problem_type(slug)
    if kind is None:
        raise NotFound("No problem type has this name; /problems lists all types.")
    return await render_template("problem.html", kind=kind)
