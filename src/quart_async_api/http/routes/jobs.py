"""The routes of jobs: submit, list, read, result, cancel, retry and events."""

from pydantic import JsonValue
from quart import Blueprint, Response, jsonify, request
from quart.typing import ResponseReturnValue

from ... import errors
from ...access.caller import Scope
from ...jobs.states import JobRecord
from ...jobs.transitions import CancelAnswer
from ...services.idempotency import JobReply
from ...services.submissions import Options
from ..conditional import tagged
from ..contract import documents
from ..contract.needs import STARTS_JOB, needs
from ..contract.operations import Answer, CallbackUrl, operation
from ..delivery.callbacks import callback_of
from ..delivery.delivers import FAILURES, HEADERS, REFUSALS, STREAMED, varies
from ..delivery.delivery import (
    RETRY_AFTER,
    Choice,
    Delivery,
    chosen,
    come_back_headers,
    deliver,
    deliver_job,
    outcome,
)
from ..delivery.event_stream import stream, stream_all
from ..delivery.idempotency import HEADER
from ..delivery.prefer import Preferences, parse
from ..guards.access import caller
from ..job_ids import know_converter, know_ids
from ..paging import LINKED, decode_job_cursor, encode_job_cursor, page_links
from ..parts import parts
from .job_inputs import JobsPage, NewJob, Retry

blueprint = Blueprint("jobs", __name__)
blueprint.record_once(know_converter)
blueprint.before_request(know_ids)

TAG = "Jobs"


_LOOKUP = (errors.JobNotFound, errors.JobExpired, errors.Unreadable)
_FAILED = (
    errors.TaskCrashed,
    errors.ArgumentsOutdated,
    errors.DataFileUnusable,
    errors.UpstreamFailed,
    errors.UpstreamTimeout,
)
_JOB = Answer("The job", documents.Job)
_STARTED = Answer("The job", documents.Job, headers={"Location": "Its address", "Retry-After": "Seconds"})


@blueprint.post("/jobs")
@needs(Scope.WRITE, audited=STARTS_JOB)
@varies
@operation(
    TAG,
    "Run a task as a job",
    body=NewJob,
    answers={202: _STARTED, 200: (Answer("The job, if it ended within `Prefer: wait`", documents.Job), STREAMED)},
    headers=HEADERS,
    errors=REFUSALS,
    callback=CallbackUrl.BODY,
)
async def submit(body: NewJob) -> Response:
    """The task, its arguments and all options are checked before the job is accepted."""
    submissions = parts().submissions
    task = submissions.task(body.task)
    arguments = submissions.arguments(task, body.args)
    run_at = submissions.not_before(body.delay, body.run_at)
    callback = callback_of(body)
    options = Options(body.priority, run_at, body.timeout, body.max_attempts, callback)
    return await deliver(task, arguments, chosen(always_job=True), options=options)


@blueprint.get("/jobs")
@needs(Scope.READ)
@operation(
    TAG,
    "List jobs",
    query=JobsPage,
    answers={200: Answer("Jobs, newest first", documents.Jobs, headers=LINKED)},
    errors=(errors.PageTooLarge,),
)
async def list_jobs(query: JobsPage) -> ResponseReturnValue:
    """Arguments over 4 kB and results over 16 kB are omitted. `GET /jobs/{id}` includes them."""
    before = decode_job_cursor(query.cursor, query.filters) if query.cursor is not None else None
    found = await parts().store.reading.page(query.limit + 1, caller().sees, before=before, **query.filters)  # type: ignore[arg-type]
    page = found[: query.limit]
    cursor = encode_job_cursor(page[-1].id, query.filters) if len(found) > query.limit else None
    following, links = page_links(query.limit, cursor)
    return jsonify(items=[job.document(whole=False) for job in page], next=following), links


@blueprint.get("/jobs/<job:job_id>")
@needs(Scope.READ)
@operation(
    TAG,
    "Read a job",
    answers={200: _JOB, 304: Answer("Not changed since If-None-Match")},
    headers={
        "Prefer": "`wait=20` delays the response until the job has ended, at most 30 s",
        "If-None-Match": "An ETag",
    },
    errors=_LOOKUP,
)
async def read(job_id: str) -> Response:
    """The status is 200 for a failed job too: the job document contains the error. A key with the scope `admin` also gets the
    `traceback` of an attempt that failed by a fault of the code."""
    wait = parse(", ".join(request.headers.getlist("Prefer"))).wait
    asks = caller()
    job = await (
        parts().store.reading.get(job_id, asks.sees) if wait is None else parts().submissions.wait(job_id, wait, asks)
    )
    attempts = await parts().store.reading.attempts(job_id, tracebacks=asks.may(Scope.ADMIN))
    document = job.document() | {"attempts": attempts}
    response = tagged(jsonify(document), job.version)
    response.vary.add("Prefer")
    if not job.status.is_terminal:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait}"
    return response


@blueprint.get("/jobs/<job_id>/result")
@needs(Scope.READ)
@operation(
    TAG,
    "Read a job's result",
    answers={
        200: Answer("The result, as in the response to a waiting caller", JsonValue, example={"result": 1}),
        202: _STARTED,
    },
    errors=(*_LOOKUP, *FAILURES, *_FAILED, errors.JobCancelled),
)
async def result(job_id: str) -> Response:
    """For a failed job, the response is its problem, with the status of the problem. Poll until the status is no longer 202."""
    job = await parts().store.reading.get(job_id, caller().sees)
    if not job.status.is_terminal:
        response = jsonify(job.document())
        response.status_code = 202
        response.headers.update(come_back_headers(job.id))
        return response
    return await outcome(job)


@blueprint.delete("/jobs/<job:job_id>")
@needs(Scope.WRITE, audited="job.cancel")
@operation(
    TAG,
    "Cancel a job",
    answers={
        204: Answer("The queued job is cancelled"),
        202: Answer("The running job is asked to stop", documents.Job),
    },
    errors=(*_LOOKUP, errors.JobEnded),
)
async def cancel(job_id: str) -> ResponseReturnValue:
    """A running coroutine gets CancelledError. If it does not end within `QAA_CANCEL_SECONDS`, it is abandoned."""
    answer, job = await parts().submissions.cancel(job_id, caller())
    if answer is CancelAnswer.CANCELLED:
        return "", 204
    return jsonify(job.document()), 202, come_back_headers(job.id)


@blueprint.post("/jobs/<job_id>/retry")
@needs(Scope.WRITE, audited="job.retry")
@operation(
    TAG,
    "Run a job again",
    body=Retry,
    body_is_optional=True,
    answers={202: _STARTED},
    headers={HEADER: HEADERS[HEADER]},
    errors=(*_LOOKUP, errors.JobEnded, *REFUSALS),
)
async def retry(job_id: str, body: Retry) -> Response:
    """Submits a failed or cancelled job again, as a new job with the same arguments, to run now. With `args`, any ended job can
    run again with other arguments. The new job belongs to the owner of the first one."""

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().submissions.retry(job_id, caller(), args=body.args, key=key)

    return await deliver_job(submit, Choice(Delivery.COME_BACK, Preferences()))


_EVENTS = Answer("Server-sent events", documents.ServerSentEvent, documents.EVENT_STREAM)
_RESUME = {"Last-Event-ID": "Id of the last received event: the stream resumes after it, without a snapshot"}


@blueprint.get("/jobs/<job_id>/events")
@needs(Scope.READ)
@operation(
    TAG,
    "Watch a job",
    answers={200: _EVENTS, 204: Answer("No event follows Last-Event-ID")},
    headers=_RESUME,
    errors=(*_LOOKUP, errors.TooManyStreams),
)
async def events(job_id: str) -> Response:
    """Sends `snapshot` first, then `progress`, `log` and `retry`, and finally `succeeded`, `failed` or `cancelled`."""
    job: JobRecord = await parts().store.reading.get(job_id, caller().sees)
    if request.method == "HEAD":
        return Response(status=200, content_type=documents.EVENT_STREAM)
    return await stream(job)


@blueprint.get("/jobs/events")
@needs(Scope.READ)
@operation(TAG, "Watch all jobs", answers={200: _EVENTS}, headers=_RESUME, errors=(errors.TooManyStreams,))
async def all_events() -> Response:
    """Sends the events of all jobs until the client disconnects."""
    if request.method == "HEAD":
        return Response(status=200, content_type=documents.EVENT_STREAM)
    return await stream_all()
