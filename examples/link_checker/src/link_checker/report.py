"""GET /report/{job}: what a check-site job found, as a page for a browser and as text for a terminal."""

from jinja2 import Environment, PackageLoader
from quart import Blueprint, Response, request

from quart_async_api.errors import JobNotFound
from quart_async_api.http.delivery.delivery import outcome
from quart_async_api.http.guards.access import caller
from quart_async_api.http.parts import parts

from .tasks import SiteReport, check_site

blueprint = Blueprint("link_checker", __name__)

# Read and compiled now: later it would hold up the loop.
_templates = Environment(loader=PackageLoader("link_checker"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_page = _templates.get_template("report.html")
_text = _templates.get_template("report.txt")


@blueprint.get("/report/<job_id>")
async def report(job_id: str) -> Response:
    """202 while it runs; a failed job's problem; 404 for what is no check-site job."""
    job = await parts().store.reading.get(job_id, caller().sees)
    if job.task != check_site.name:
        raise JobNotFound("no check-site job has this id")
    if not job.status.is_terminal:
        response = Response(f"{job.status}; ask again\n", status=202, content_type="text/plain; charset=utf-8")
        response.headers["Retry-After"] = "1"
        return response
    return await outcome(job, _rendered)


async def _rendered(found: SiteReport) -> Response:
    wanted = request.accept_mimetypes.best_match(["text/plain", "text/html"])
    template = _page if wanted == "text/html" else _text
    response = Response(template.render(found), content_type=f"{wanted or 'text/plain'}; charset=utf-8")
    response.vary.add("Accept")
    return response
