"""The ids of jobs in paths, checked without a query to the database."""

import re

from quart import request
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from ..errors import JobNotFound
from .contract.documents import JOB_ID

_ID = re.compile(JOB_ID)


class _JobId(BaseConverter):
    regex = "(?!(?:events|bulk)$)[^/]+"  # these are all of them: no method of one job is a method of theirs


def know_converter(state: BlueprintSetupState) -> None:
    """Register the converter `<job:job_id>`. For `Blueprint.record_once`."""
    state.app.url_map.converters["job"] = _JobId


async def know_ids() -> None:
    """Raise JobNotFound for a text that cannot be an id, without a query to the database."""
    job_id = (request.view_args or {}).get("job_id")
    if job_id is not None and not _ID.fullmatch(job_id):
        raise JobNotFound("no job has this id")
