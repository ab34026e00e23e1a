"""The callbacks of a job: what was sent, what was answered, and once more."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue

from ...errors import CallbackNotFound, JobExpired, JobNotFound
from .. import documents
from ..access import caller
from ..job_ids import know_ids
from ..operations import Answer, operation
from ..parts import parts

blueprint = Blueprint("callbacks", __name__)
blueprint.before_request(know_ids)

TAG = "Callbacks"


@blueprint.get("/jobs/<job_id>/callbacks")
@operation(
    TAG,
    "List the callbacks of a job",
    answers={200: Answer("Each with its attempts", documents.Callbacks)},
    errors=(JobNotFound, JobExpired),
)
async def list_callbacks(job_id: str) -> Response:
    """The first kilobyte of each answer is kept, and `next_attempt_at` says when the next try is."""
    return jsonify(items=await parts().callbacks.of_job(job_id, caller()))


@blueprint.post("/jobs/<job_id>/callbacks/<message_id>/replay")
@operation(
    TAG,
    "Send a callback once more",
    answers={202: Answer("It is sent again", documents.Callbacks)},
    errors=(JobNotFound, JobExpired, CallbackNotFound),
)
async def replay(job_id: str, message_id: str) -> ResponseReturnValue:
    """Under the same webhook-id, delivered ones too, on the schedule from its beginning."""
    service = parts()
    await service.callbacks.replay(job_id, message_id, caller())
    return (
        jsonify(items=await service.callbacks.of_job(job_id, caller())),
        202,
        {"Location": f"/jobs/{job_id}/callbacks"},
    )
