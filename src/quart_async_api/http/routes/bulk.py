"""The route of bulk jobs: cancel or retry all jobs that match a filter."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint, Response, jsonify

from ...access.caller import Scope
from ...jobs.states import JobRecord
from ...services.bulk import OPTIONS, SPARE, Action, JobFilter, bulk_jobs, wanted
from ...services.idempotency import JobReply
from ..contract import documents
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..delivery.delivers import HEADERS, REFUSALS
from ..delivery.delivery import Choice, Delivery, deliver_job
from ..delivery.idempotency import HEADER, sent_key
from ..delivery.prefer import Preferences
from ..guards.access import caller, state
from ..parts import parts

blueprint = Blueprint("bulk", __name__)


class BulkWish(BaseModel):
    """What to do with which jobs."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"action": "cancel", "filter": {"status": "queued", "task": "report"}, "dry_run": True},
                {"action": "retry", "filter": {"status": "failed", "created_after": "2026-11-21T00:00:00Z"}},
            ]
        },
    )

    action: Action
    filter: JobFilter
    dry_run: Annotated[bool, Field(strict=True, description="Count the jobs, and change none")] = False


@blueprint.post("/jobs/bulk")
@needs(Scope.WRITE, audited="job.bulk")
@operation(
    "Jobs",
    "Cancel or retry many jobs",
    body=BulkWish,
    answers={
        200: Answer("The number of jobs that match, for `dry_run`", documents.Matching),
        202: Answer("A job that does it", documents.Job, headers={"Location": "Its address", "Retry-After": "Seconds"}),
    },
    headers={HEADER: HEADERS[HEADER]},
    errors=REFUSALS,
)
async def bulk(body: BulkWish) -> Response:
    """Cancels the queued and running jobs, or retries the failed and cancelled jobs, of the caller that match the filter now.
    With the scope `admin`, the jobs of all. The answer is a job: its progress counts, and its result is
    `{"matched", "done", "skipped"}`. Jobs that are created later are not touched, and no job of this route is. Cancel the job
    to stop halfway."""
    which = wanted(body.action, body.filter, caller().sees, parts().now())
    if body.dry_run:
        await sent_key()  # a bad one is refused here too
        state().changes = False
        return jsonify(matching=await parts().store.bulk.count(which))
    arguments = bulk_jobs.arguments(action=body.action, filter=body.filter)

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().submissions.submit(bulk_jobs, arguments, OPTIONS, caller=caller(), key=key, spare=SPARE)

    return await deliver_job(submit, Choice(Delivery.COME_BACK, Preferences()))
