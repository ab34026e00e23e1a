"""The routes of callbacks: list those of all jobs or of one, and replay one."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field
from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue

from ...access.caller import Scope
from ...errors import CallbackNotFound, JobExpired, JobNotFound, PageTooLarge, Unreadable
from ..contract import documents
from ..contract.inputs import has_no_nul
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..delivery.callbacks import EventType
from ..guards.access import caller
from ..job_ids import know_ids
from ..paging import LINKED, PageSize, decode_callback_cursor, encode_callback_cursor, page_links
from ..parts import parts

blueprint = Blueprint("callbacks", __name__)
blueprint.before_request(know_ids)

TAG = "Callbacks"


class CallbacksQuery(BaseModel):
    limit: Annotated[int, PageSize(100)] = Field(
        default=25, ge=1, description="Maximum number of callbacks on the page"
    )
    cursor: str | None = Field(default=None, description="Position after the previous page, from its `next`")
    status: Literal["pending", "delivered", "failed"] | None = Field(default=None)
    origin: Annotated[str, Field(max_length=300), AfterValidator(has_no_nul)] | None = Field(
        default=None, description="Scheme, host and port of the target, like `https://example.org:443`"
    )
    type: EventType | None = Field(default=None)


@blueprint.get("/callbacks")
@needs(Scope.READ)
@operation(
    TAG,
    "List callbacks",
    query=CallbacksQuery,
    answers={200: Answer("Callbacks, newest first, each with its tries", documents.CallbacksPage, headers=LINKED)},
    errors=(PageTooLarge,),
)
async def list_all(query: CallbacksQuery) -> ResponseReturnValue:
    """The callbacks of the caller's jobs, or for a key with the scope `admin` of all jobs, until they expire."""
    filters = {"status": query.status, "origin": query.origin, "type": query.type}
    before = decode_callback_cursor(query.cursor, filters) if query.cursor is not None else None
    found = await parts().callbacks.page(query.limit + 1, caller(), before=before, **filters)
    page = found[: query.limit]
    cursor = encode_callback_cursor(page[-1][0], filters) if len(found) > query.limit else None
    following, links = page_links(query.limit, cursor)
    return jsonify(items=[document for _, document in page], next=following), links


@blueprint.get("/jobs/<job_id>/callbacks")
@needs(Scope.READ)
@operation(
    TAG,
    "List the callbacks of a job",
    answers={200: Answer("The callbacks, each with its tries", documents.Callbacks)},
    errors=(JobNotFound, JobExpired, Unreadable),
)
async def list_callbacks(job_id: str) -> Response:
    """Includes the first kilobyte of each response. `next_attempt_at` is the time of the next attempt."""
    return jsonify(items=await parts().callbacks.of_job(job_id, caller()))


@blueprint.post("/jobs/<job_id>/callbacks/<message_id>/replay")
@needs(Scope.WRITE, audited="callback.replay")
@operation(
    TAG,
    "Send a callback again",
    answers={202: Answer("The callback will be sent again", documents.Callbacks)},
    errors=(JobNotFound, JobExpired, Unreadable, CallbackNotFound),
)
async def replay(job_id: str, message_id: str) -> ResponseReturnValue:
    """Keeps the webhook-id and restarts the schedule. Works for delivered callbacks too."""
    service = parts()
    await service.callbacks.replay(job_id, message_id, caller())
    return (
        jsonify(items=await service.callbacks.of_job(job_id, caller())),
        202,
        {"Location": f"/jobs/{job_id}/callbacks"},
    )
