"""Metrics for Prometheus."""

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from ...access.caller import Scope
from ...problem_types import BY_STATUS
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..parts import parts

blueprint = Blueprint("metrics", __name__)

EXAMPLE = "# HELP qaa_jobs_running Attempts that run in these processes\n# TYPE qaa_jobs_running gauge\nqaa_jobs_running 0.0\n"


@blueprint.get("/metrics")
@needs(Scope.METRICS)
@operation(
    "Health",
    "Metrics for Prometheus",
    answers={200: Answer("The metrics as Prometheus text", str, "text/plain", example=EXAMPLE)},
    errors=(BY_STATUS[404],),
)
async def metrics() -> Response:
    """Needs a key with the scope `metrics` or `admin`. Any process of one `serve` answers for all of them. The status is 404
    without the extra `observability`, or with `QAA_METRICS=0`."""
    service = parts()
    if service.metrics is None:
        raise NotFound(
            "Metrics are off: they need the extra quart-async-api[observability], and QAA_METRICS not to be 0."
        )
    service.metrics.refresh(service.gauges)
    text = await service.metrics.text(await service.census.figures())
    headers = {"Cache-Control": "no-store"}
    return Response(text, content_type=service.metrics.content_type, headers=headers)
