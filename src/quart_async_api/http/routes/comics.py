"""The comics: JSON for a program, a page with the pictures for a browser."""

from urllib.parse import urlsplit

from quart import Blueprint, Response, jsonify, render_template, request

from ... import errors, tutorial
from ..delivery import delivers
from ..guards import content_security_policy
from ..operations import Answer

blueprint = Blueprint("comics", __name__)

_PAGE = Answer("The same as a page with the pictures, for `Accept: text/html`", str, "text/html")


@blueprint.get("/comic")
@delivers(tutorial.comic, errors=(errors.UpstreamFailed, errors.UpstreamTimeout), renditions=(_PAGE,))
async def comic(result: tutorial.Comics) -> Response:
    """One that fails or does not exist is an entry in `errors`; `sequential_elapsed` is what one after another would take."""
    accepted = request.accept_mimetypes
    if accepted["text/html"] <= accepted["application/json"]:
        return jsonify(result)
    page = Response(await render_template("comics.html", **result))
    pictures = (urlsplit(fetched.img) for fetched in result["comics"])
    origins = sorted({f"{picture.scheme}://{picture.netloc}" for picture in pictures})
    page.headers["Content-Security-Policy"] = content_security_policy(*origins)
    return page
