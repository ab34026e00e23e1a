"""GET /figures: the last hour in numbers, for admins."""

from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from tests.secrets import secret

from .conftest import Document, ended, started


async def of(client: QuartClient) -> Document:
    response = await client.get("/figures")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    document: Document = await response.get_json()
    return document


def total(document: Document, name: str) -> float:
    return sum(float(minute[name]) for minute in document["minutes"])


async def test_jobs_and_requests_show_in_the_figures(jobs: QuartClient, job_app: Quart) -> None:
    page = await (await jobs.get("/console/overview")).get_data(as_text=True)
    assert "No job ran in this time" in page
    await ended(jobs, await started(jobs, "test"))
    await ended(jobs, await started(jobs, "second-time"))
    await jobs.get("/nowhere")
    document = await of(jobs)
    assert (total(document, "submitted"), total(document, "succeeded"), total(document, "failed")) == (2, 2, 0)
    requests = [minute["requests"] for minute in document["minutes"]]
    assert (sum(each["2xx"] for each in requests), sum(each["4xx"] for each in requests)) == (5, 1)
    assert len([moment for minute in document["minutes"] for moment in minute["started"]]) == 1
    assert {task["task"]: (task["attempts"], task["failed"]) for task in document["tasks"]} == {
        "test": (1, 0),
        "second-time": (2, 1),
    }
    for task in document["tasks"]:
        assert task["run_seconds"]["p50"] <= task["run_seconds"]["p99"] <= task["run_histogram"][-1]["up_to"]
    assert document["failures"] == [{"kind": "RuntimeError", "attempts": 1}]
    figures = parts_of(job_app).figures
    for name in ("<script>alert(1)</script>", "x" * 200):
        figures._current().count_failure(name)
        figures._current().times(name)
    page = await (await jobs.get("/console/overview")).get_data(as_text=True)
    assert "No job ran" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert "<script>alert" not in page
    assert document["minutes"] == sorted(document["minutes"], key=lambda minute: minute["minute"])


async def test_only_an_admin_reads_them_and_finds_the_overview_in_the_menu(app: Quart, client: QuartClient) -> None:
    for scope, status in ((Scope.READ, 403), (Scope.METRICS, 403), (Scope.ADMIN, 200)):
        _, key = await parts_of(app).keys.create(scope.value, [scope])
        headers = {"Authorization": f"Bearer {secret(key)}"}
        for path in ("/figures", "/console/overview"):
            assert (await client.get(path, headers=headers)).status_code == status
        if scope is not Scope.METRICS:
            page = await (await client.get("/docs", headers=headers)).get_data(as_text=True)
            assert ("/console/overview" in page) == (status == 200)


async def test_turned_off_they_are_empty_and_nothing_is_counted_or_written(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"overview_minutes": 0}))
    async with app.test_app():
        client = app.test_client()
        assert isinstance(client, QuartClient)
        await ended(client, await started(client, "test"))
        document = await of(client)
        assert (document["minutes"], document["tasks"]) == ([], [])
        page = await (await client.get("/console/overview")).get_data(as_text=True)
        assert "QAA_OVERVIEW_MINUTES" in page
        assert "<figure" not in page
        assert await app.service.database.read("SELECT * FROM figures") == []
    assert app.service.store.submission.on_inserted == []
