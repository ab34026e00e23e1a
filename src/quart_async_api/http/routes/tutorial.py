"""The tutorials' routes: each is a task, delivered as its caller wishes."""

from quart import Blueprint, Response, jsonify

from ... import errors, tutorial
from ..delivery import delivers

blueprint = Blueprint("tutorial", __name__)


@blueprint.get("/get")
@delivers(tutorial.get, errors=(errors.DataFileUnusable,))
async def get(result: tutorial.DataFile) -> Response:
    """The content of the JSON file that `QAA_DATA_FILE` names, read at each call."""
    return jsonify(result)


@blueprint.get("/test")
@delivers(tutorial.test)
async def test(result: tutorial.Answer) -> Response:
    """A thousand of these at once take hardly longer than one."""
    return jsonify(result)


@blueprint.get("/gather")
@delivers(tutorial.gather)
async def gather(result: tutorial.Gathered) -> Response:
    """`elapsed` is about 3: the longer of the two, not their sum."""
    return jsonify(result)


@blueprint.get("/mock-db")
@delivers(tutorial.mock_db)
async def mock_db(result: tutorial.Rows) -> Response:
    """Needs no database."""
    return jsonify(result)


@blueprint.get("/external-api")
@delivers(tutorial.external_api, errors=(errors.UpstreamFailed, errors.UpstreamTimeout))
async def external_api(result: tutorial.External) -> Response:
    """The document that `QAA_EXTERNAL_API_URL` names, with what it took to fetch it."""
    return jsonify(result)
