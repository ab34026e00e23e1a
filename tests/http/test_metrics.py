"""/metrics: what Prometheus reads, who may read it, and that each metric of the table is there."""

import logging
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.access.caller import Scope
from quart_async_api.app import App
from quart_async_api.http.parts import parts_of
from quart_async_api.observability.metric_names import METRICS, Kind
from quart_async_api.service import Role
from quart_async_api.services import census
from tests import promtool
from tests.secrets import secret

from .conftest import Watch, ended, running, started
from .job_tasks import gate

Samples = Mapping[tuple[str, tuple[str, ...]], float]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the figures of the database for each answer."""
    monkeypatch.setattr(census, "FRESH_SECONDS", 0)
    monkeypatch.setattr(census, "SHARE", 0)


def parsed(text: str) -> Samples:
    """The figures, by the name of the sample and the values of its labels, in the order of their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(client: QuartClient, **headers: str) -> str:
    response = await client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")
    return await response.get_data(as_text=True)


async def test_requests_and_jobs_are_counted(jobs: QuartClient, job_app: Quart, watch: Watch) -> None:
    await jobs.get("/user/99")
    await jobs.get("/nowhere")
    await ended(jobs, await started(jobs, "test"))
    await ended(jobs, await started(jobs, "second-time"))
    held = await running(jobs, watch, "a")
    samples = parsed(await scraped(jobs))
    requests = "qaa_http_request_duration_seconds_count"
    assert samples[requests, ("GET", "/user/{user_id}", "404")] == 1
    assert samples[requests, ("GET", "", "404")] == 1
    assert samples[requests, ("POST", "/jobs", "202")] == 3
    assert samples["qaa_http_requests_in_flight", ()] == 1
    assert samples["qaa_job_attempts_total", ("succeeded", "test")] == 1
    assert samples["qaa_job_attempts_total", ("failed", "second-time")] == 1
    assert samples["qaa_job_attempts_total", ("succeeded", "second-time")] == 1
    assert samples["qaa_job_retries_total", ("second-time",)] == 1
    assert samples["qaa_job_queue_seconds_count", ("test",)] == samples["qaa_job_run_seconds_count", ("test",)] == 1
    assert samples["qaa_jobs", ("running", "held")] == samples["qaa_jobs_running", ()] == 1
    assert samples["qaa_workers", ()] == samples["qaa_database_up", ()] == 1
    gate("a").set()
    await ended(jobs, held)


async def test_each_metric_of_the_table_is_there_with_its_type_and_promtool_finds_no_fault(jobs: QuartClient) -> None:
    await ended(jobs, await started(jobs, "test"))
    text = await scraped(jobs)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        kind = metric.kind if metric.kind in (Kind.COUNTER, Kind.HISTOGRAM) else "gauge"
        assert (family.type, family.documentation) == (kind, metric.help)
    assert families.keys() == {metric.name.removesuffix("_total") for metric in METRICS}
    promtool.check("metrics", text=text.encode())


async def test_metrics_need_their_own_scope_and_it_allows_nothing_else(
    app: Quart, client: QuartClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = {
        scope: {"Authorization": f"Bearer {secret((await parts_of(app).keys.create(scope.value, [scope]))[1])}"}
        for scope in (Scope.READ, Scope.METRICS, Scope.ADMIN)
    }
    assert (await client.get("/metrics")).status_code == 401
    assert (await client.get("/metrics", headers=keys[Scope.READ])).status_code == 403
    await scraped(client, **keys[Scope.METRICS])
    await scraped(client, **keys[Scope.ADMIN])
    assert (await client.get("/jobs", headers=keys[Scope.METRICS])).status_code == 403
    assert {vars(record)["action"] for record in caplog.records if "action" in vars(record)} == {"access.refuse"}


@pytest.mark.parametrize("why", ["the setting", "the extra"])
async def test_without_metrics_the_route_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "the extra":
        monkeypatch.setattr("quart_async_api.service.is_installed", lambda: False)
    else:
        settings = settings.model_copy(update={"metrics": False})
    app = create_app(settings)
    async with app.test_app():
        response = await app.test_client().get("/metrics")
        assert response.status_code == 404
        assert "extra" in (await response.get_json())["detail"]
        assert app.request_log.count is None
        assert app.service.loop_watch.listeners == []


async def test_a_database_that_does_not_answer_in_time_does_not_keep_the_other_metrics(
    client: QuartClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "LIMIT_SECONDS", 0)
    samples = parsed(await scraped(client))
    assert samples["qaa_database_up", ()] == 0
    assert ("qaa_workers", ()) not in samples
    assert ("qaa_http_requests_in_flight", ()) in samples


@pytest.fixture
def worker(settings: Settings) -> App:
    app = create_app(settings)
    app.take(Role(serves=False))
    return app


async def test_a_worker_answers_for_its_metrics(worker: App) -> None:
    async with worker.test_app():
        client = worker.test_client()
        assert isinstance(client, QuartClient)
        assert parsed(await scraped(client))["qaa_workers", ()] == 1
