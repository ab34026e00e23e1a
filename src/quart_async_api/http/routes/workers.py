"""The route of workers: the processes on the database, and what they run."""

from quart import Blueprint, Response, jsonify

from ...access.caller import Scope
from ..contract import documents
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..parts import parts

blueprint = Blueprint("workers", __name__)


@blueprint.get("/workers")
@needs(Scope.ADMIN)
@operation(
    "Operations", "List the workers", answers={200: Answer("The processes, the oldest first", documents.Workers)}
)
async def list_workers() -> Response:
    """Lists every process that is registered on the database, with the ids of the jobs that it runs. A process that has died is
    listed until another one has released its jobs."""
    return jsonify(items=await parts().store.workers.all())
