"""The tutorial routes. Each is a task, in all deliveries."""

from quart import Blueprint

from ... import errors, tutorial
from ..delivery.delivers import delivers

blueprint = Blueprint("tutorial", __name__)

TAG = "Tutorial"


@blueprint.get("/get")
@delivers(tutorial.get, tag=TAG, errors=(errors.DataFileUnusable,), example={"result": {"message": "Hello"}})
async def get(result: tutorial.DataFile) -> None:
    """Returns the content of the JSON file in `QAA_DATA_FILE`, which is read for each request."""


@blueprint.get("/test")
@delivers(tutorial.test, tag=TAG, example={"result": 1})
async def test(result: tutorial.Answer) -> None:
    """A thousand concurrent calls take hardly longer than one."""


@blueprint.get("/gather")
@delivers(tutorial.gather, tag=TAG, example={"results": ["Task 1 Complete", "Task 2 Complete"], "elapsed": 3.002})
async def gather(result: tutorial.Gathered) -> None:
    """`elapsed` is about 3: the longer of the two times, not their sum."""


@blueprint.get("/mock-db")
@delivers(
    tutorial.mock_db,
    tag=TAG,
    example={"data": [{"id": 1, "name": "Ada Lovelace", "role": "analyst"}], "elapsed": 5.001},
)
async def mock_db(result: tutorial.Rows) -> None:
    """Uses no database."""


@blueprint.get("/external-api")
@delivers(
    tutorial.external_api,
    tag=TAG,
    errors=(errors.UpstreamFailed, errors.UpstreamTimeout),
    example={"url": "https://api.example.com/", "status": 200, "data": {"id": 1}, "elapsed": 0.212},
)
async def external_api(result: tutorial.External) -> None:
    """Fetches the document at `QAA_EXTERNAL_API_URL`. `elapsed` is the time in seconds."""
