"""The routes of callbacks: list the callbacks of a job, and replay one."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue

from ...access.caller import Scope
from ...errors import CallbackNotFound, JobExpired, JobNotFound, Unreadable
from ..contract import documents
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..guards.access import caller
from ..job_ids import know_ids
from ..parts import parts

blueprint = Blueprint("callbacks", __name__)
blueprint.before_request(know_ids)

TAG = "Callbacks"


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
