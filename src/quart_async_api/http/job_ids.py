"""The ids of jobs in paths: what can be one, known before any database is asked."""

import re

from quart import request
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from ..errors import JobNotFound
from .contract.documents import JOB_ID

_ID = re.compile(JOB_ID)


class _JobId(BaseConverter):
    regex = "(?!events$)[^/]+"  # that is all of them: no method of one job is a method of it


def know_converter(state: BlueprintSetupState) -> None:
    """For `Blueprint.record_once`: `<job:job_id>` in a rule is a job's id."""
    state.app.url_map.converters["job"] = _JobId


async def know_ids() -> None:
    """Raises JobNotFound for what can be no id: no database is asked."""
    job_id = (request.view_args or {}).get("job_id")
    if job_id is not None and not _ID.fullmatch(job_id):
        raise JobNotFound("no job has this id")
