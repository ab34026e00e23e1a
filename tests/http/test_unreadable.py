"""A job of which something cannot be read: every route by its id answers, and names what it is."""

import itertools
import json
import logging
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api.http.parts import parts_of

from .asgi import ask
from .conftest import Document, started

DEEP = "[" * 100_000
COLUMNS = {
    "status": ["strange", ""],
    "args": ["{", "[]", "null", DEEP],
    "progress": ["x", "[1]", DEEP],
    "result": ["]", "nonsense", DEEP],
    "error": ["nonsense", "[]", "{}", '{"type": 1, "title": "", "status": "", "detail": ""}', DEEP],
}
SOUND = {
    "queued": {"stage": "delayed"},
    "succeeded": {"result": "1"},
    "failed": {"error": json.dumps({"type": "about:blank", "title": "a", "status": 500, "detail": "b"})},
}
PROBLEM = "/problems/unreadable-data"


async def damaged(app: Quart, client: QuartClient, status: str, column: str, garbage: str) -> Document:
    """A job of this status with `garbage` in a column."""
    job = await started(client, "test", delay=600)
    values = {"status": status, "stage": None, "progress": "{}"} | SOUND[status] | {column: garbage}
    if status != "queued":
        values["finished_at"] = job["created_at"]

    def unit() -> Any:
        marks = ", ".join(f"{name} = ?" for name in values)
        yield (f"UPDATE jobs SET {marks} WHERE id = ?", (*values.values(), job["id"]))  # noqa: S608

    await parts_of(app).commits.run(unit)
    return job


def routes_by_id(app: Quart) -> list[tuple[str, str]]:
    """Method and path of every route with the id of a job."""
    found = [
        (method, rule.rule.replace("<job:job_id>", "{id}").replace("<job_id>", "{id}").replace("<message_id>", "m"))
        for rule in app.url_map.iter_rules()
        if "job_id" in rule.arguments and not rule.websocket
        for method in (rule.methods or set()) - {"OPTIONS"}
    ]
    return sorted(found, key=lambda route: (["HEAD", "GET", "POST", "DELETE"].index(route[0]), route))


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_column_that_could_not_be_read_was_a_bare_500(
    job_app: Quart, jobs: QuartClient, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    routes = routes_by_id(job_app)
    assert len(routes) >= 9
    for status, garbage in itertools.product(SOUND, COLUMNS[column]):
        caplog.clear()
        job = await damaged(job_app, jobs, status, column, garbage)
        what = f"the {column} of job {job['id']}"
        # Reading comes first: what changes the job comes once it was read.
        for method, path in routes * 2:
            answer = await ask(job_app, method, path.replace("{id}", job["id"]))
            told = (method, path, status, garbage[:20], answer.status, bytes(answer.body)[:300])
            assert answer.status < 501, told
            if answer.status == 500 and method != "HEAD" and not _is_its_own_failure(status, column, path):
                document = json.loads(answer.body)
                assert document["type"] == PROBLEM, told
                assert what in document["detail"], told
            if column == "status":
                assert answer.status == 500, told
        records = [
            record
            for record in caplog.records
            if record.levelno >= logging.WARNING and not record.name.endswith("loop_watch")  # a busy machine
        ]
        assert not [record for record in records if record.exc_info]
        assert len([record for record in records if what in record.getMessage()]) <= 1
        assert not [record for record in records if "cannot be read" not in record.getMessage()]


def _is_its_own_failure(status: str, column: str, path: str) -> bool:
    """Whether the answer is the problem that the job failed with."""
    return status == "failed" and column not in ("status", "error") and path.endswith("/result")


@pytest.mark.parametrize("column", ["args", "progress", "result", "error"])
async def test_a_part_that_cannot_be_read_is_named_in_the_document(
    job_app: Quart, jobs: QuartClient, column: str
) -> None:
    status = "succeeded" if column == "result" else "failed"
    job = await damaged(job_app, jobs, status, column, COLUMNS[column][0])
    for path in (job["links"]["self"], "/jobs"):
        found = await (await jobs.get(path)).get_json()
        document = found["items"][0] if path == "/jobs" else found
        assert document["unreadable"] == [column]
        assert (document["id"], document["status"]) == (job["id"], status)
    assert document.get(f"{column}_omitted", True) is True
    if column == "error":
        assert document["error"]["type"] == PROBLEM
        assert document["error"]["detail"] == f"the error of job {job['id']} cannot be read"


async def test_a_job_of_unknown_status_closes_its_socket_with_the_reason(job_app: Quart, jobs: QuartClient) -> None:
    job = await damaged(job_app, jobs, "queued", "status", "strange")
    async with jobs.websocket(job["links"]["websocket"]) as socket:
        with pytest.raises(Exception, match="1011"):
            await socket.receive()


async def test_a_result_that_no_longer_fits_its_task_is_sent_as_stored(job_app: Quart, jobs: QuartClient) -> None:
    headers = {"Prefer": "respond-async, wait=30", "Idempotency-Key": "k"}
    first = await jobs.get("/test", headers=headers)
    assert first.status_code == 200
    identity = first.headers["Link"].split(">")[0].rpartition("/")[2]

    def unit() -> Any:
        yield ('UPDATE jobs SET result = \'{"result": "text"}\' WHERE id = ?', (identity,))

    await parts_of(job_app).commits.run(unit)
    again = await jobs.get("/test", headers=headers)
    assert (again.status_code, await again.get_data()) == (200, b'{"result": "text"}')
