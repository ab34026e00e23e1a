"""One trace through a request, its job, the job's upstream calls and its callback, as an OpenTelemetry collector gets it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.demo import StandIn
from quart_async_api.observability.tracing import recorder
from tests.callbacks.receiver import Receiver

from .conftest import ended

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@task("call", retries=1, retryable=(RuntimeError,))
async def call(ctx: TaskContext) -> None:
    """Call an upstream, and fail once."""
    await ctx.http.get(ctx.settings.external_api_url, params={"token": "hidden"})
    if ctx.attempt == 1:
        raise RuntimeError


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.services: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.server.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def given(settings: Settings, upstream: StandIn) -> Settings:
    return settings.model_copy(update={"callback_allow_private": True, "callback_schedule": (0.0,)})


def attributes(span: Any) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_trace_goes_through_request_job_upstream_and_callback(given: Settings, collector: Collector) -> None:
    tasks = ModuleType("tasks")
    vars(tasks)["call"] = call
    app = create_app(given, tasks=[tasks])
    async with app.test_app(), Receiver() as receiver:
        client = app.test_client()
        await app.service.secrets.create()
        body = {"task": "call", "callback_url": receiver.url}
        response = await client.post("/jobs", json=body, headers=HEADERS)
        job = await ended(client, await response.get_json())  # type: ignore[arg-type]
        await receiver.got(1)
        assert recorder() is not None
    assert recorder() is None
    assert collector.services == {"quart-async-api"}
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    by_name: dict[str, list[Any]] = {}
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        by_name.setdefault(span.name, []).append(span)
    assert {name: len(found) for name, found in by_name.items()} == {
        "POST /jobs": 1,
        "run call": 2,
        "GET": 2,
        "POST": 1,
    }
    [request], attempts = by_name["POST /jobs"], by_name["run call"]
    assert request.parent_span_id.hex() == CALLER
    assert {span.parent_span_id for span in attempts} == {request.span_id}
    assert [span.parent_span_id for span in by_name["GET"]] == [span.span_id for span in attempts]
    assert by_name["POST"][0].parent_span_id == request.span_id
    assert (request.kind, attempts[0].kind, by_name["GET"][0].kind) == (2, 5, 3)  # server, consumer, client
    assert attributes(request).items() >= {"http.route": "/jobs", "http.response.status_code": 202}.items()
    first, second = map(attributes, attempts)
    assert first.items() >= {"messaging.message.id": job["id"], "error.type": "RuntimeError"}.items()
    assert (second["quart_async_api.outcome"], "error.type" in second) == ("succeeded", False)
    assert [span.status.code for span in attempts] == [2, 0]
    called = attributes(by_name["GET"][0])
    assert called["http.response.status_code"] == 200
    assert "hidden" not in str(called["url.full"])


async def test_a_trace_that_the_caller_does_not_sample_is_not_written(given: Settings, collector: Collector) -> None:
    app = create_app(given)
    async with app.test_app():
        await app.test_client().get("/health/live", headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert [span for span in collector.spans if span.trace_id.hex() == TRACE] == []


async def test_the_sampler_of_the_environment_decides_for_whole_traces(
    given: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    app = create_app(given)
    async with app.test_app():
        client = app.test_client()
        await ended(client, await (await client.post("/jobs", json={"task": "external-api"})).get_json())  # type: ignore[arg-type]
    assert collector.spans == []


@pytest.mark.parametrize("environment", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "nonsense"}])
async def test_no_span_is_written_unless_the_environment_asks_for_it(
    given: Settings, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = create_app(given)
    async with app.test_app():
        assert recorder() is None
        assert (await app.test_client().get("/health/live")).status_code == 200
