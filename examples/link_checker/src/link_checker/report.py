"""GET /report?url=…: what check-site finds, as a page for a browser, as text for a terminal, and as JSON."""

from jinja2 import Environment, PackageLoader
from quart import Blueprint, Response, request

from quart_async_api import Answer, delivers

from .tasks import SiteReport, check_site

blueprint = Blueprint("link_checker", __name__)

# Read and compiled now: later it would hold up the loop.
_templates = Environment(loader=PackageLoader("link_checker"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_page = _templates.get_template("report.html")
_text = _templates.get_template("report.txt")
_RENDITIONS = (Answer("As a page", str, "text/html"), Answer("As text", str, "text/plain"))


@blueprint.get("/report")
@delivers(check_site, tag="Reports", renditions=_RENDITIONS)
async def report(found: SiteReport) -> Response | None:
    """Text unless `Accept` asks for a page or for JSON."""
    wanted = request.accept_mimetypes.best_match(["text/plain", "text/html", "application/json"])
    if wanted == "application/json":
        return None
    template = _page if wanted == "text/html" else _text
    return Response(template.render(found), content_type=f"{wanted or 'text/plain'}; charset=utf-8")
