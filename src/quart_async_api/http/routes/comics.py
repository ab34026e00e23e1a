"""The comics: JSON for a program, a page with the pictures for a browser."""

import re
from collections.abc import Iterable
from typing import Any

from quart import Blueprint, Response, render_template, request

from ... import errors, tutorial
from ..contract.operations import Answer
from ..delivery.delivers import delivers
from ..guards.headers import content_security_policy
from .tutorial import TAG

blueprint = Blueprint("comics", __name__)

_PAGE = Answer("The same as a page with the pictures, for `Accept: text/html`", str, "text/html")
_COMIC = {
    "num": 614,
    "title": "Woodpecker",
    "alt": "If you don't have an extension cord I can get that too.",
    "img": "https://imgs.xkcd.com/comics/woodpecker.png",
    "url": "https://xkcd.com/614/",
    "elapsed": 0.3,
}
_MISSING = {"num": 404, "title": "There is no comic with this number", "detail": "There is no comic 404."}
_ORIGIN = re.compile(r"(https?://(?:[\w.-]+|\[[\da-f:.]+\])(?::\d+)?)(?:[/?#]|$)", re.ASCII | re.IGNORECASE)


@blueprint.get("/comic")
@delivers(
    tutorial.comic,
    tag=TAG,
    errors=(errors.UpstreamFailed, errors.UpstreamTimeout),
    renditions=(_PAGE,),
    example={"comics": [_COMIC], "errors": [_MISSING], "elapsed": 0.312, "sequential_elapsed": 0.3},
)
async def comic(result: dict[str, Any]) -> Response | None:
    """A comic that fails or does not exist is an entry in `errors`. `sequential_elapsed` is the sum of all fetch times."""
    accepted = request.accept_mimetypes
    if accepted["text/html"] <= accepted["application/json"]:
        return None
    page = Response(await render_template("comics.html", **result))
    origins = picture_origins(fetched["img"] for fetched in result["comics"])
    page.headers["Content-Security-Policy"] = content_security_policy(*origins)
    return page


def picture_origins(urls: Iterable[str]) -> list[str]:
    """Return the origins of these addresses for a Content-Security-Policy, without any other text of the upstream."""
    return sorted({found[1] for url in urls if (found := _ORIGIN.match(url))})
