"""The document is OpenAPI 3.1, leaves nothing of the service out, and its examples are what they are examples of."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import create_model
from quart import Blueprint

from quart_async_api import Answer, Settings, create_app, tutorial
from quart_async_api import operation as declare
from quart_async_api.http.contract.openapi import SECURITY_SCHEMES, document
from quart_async_api.http.contract.openapi_jobs import CALLBACK_NAME
from quart_async_api.http.contract.operations import CallbackUrl, View
from quart_async_api.problem_types import TYPES
from quart_async_api.tasks import registry

from .conftest import Json

PROBLEM = "application/problem+json"
STARTS = {("/jobs", "post"), ("/start-task", "get"), ("/start-task", "post")} | {
    (f"/{name}", "get") for name in registry((tutorial,)) if name != "start-task"
}


def operations(api: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolved(node: Json, api: Json) -> Json:
    if "$ref" not in node:
        return node
    found: Any = api
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def assert_fits(value: object, schema: Json, api: Json) -> None:
    OAS31Validator({**schema, "components": api["components"]}).validate(value)


def test_it_is_openapi_3_1(api: Json) -> None:
    OpenAPIV31SpecValidator(api).validate()


def test_every_rule_with_a_view_has_an_operation_the_websocket_too(api: Json) -> None:
    app = create_app(Settings())
    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/static/", "/console"))  # for people alone
    }
    forms = {("/sign-in", "get"), ("/sign-in", "post"), ("/sign-out", "post")}  # of browsers
    sockets = {(path, "get") for path in api["x-websockets"]}
    assert sockets == {("/jobs/{job_id}/ws", "get")}
    assert rules == {(path, method) for path, method, _ in operations(api)} | sockets | forms


@pytest.mark.parametrize("slug", TYPES)
def test_every_problem_type_is_an_example_and_an_answer_of_some_operation(api: Json, slug: str) -> None:
    if slug in (
        "method-not-allowed",
        "message-too-large",
    ):  # what is documented is allowed; told over an open WebSocket
        return
    every = (*(each for _, _, each in operations(api)), *api["x-websockets"].values())
    answers = (resolved(answer, api) for each in every for answer in each["responses"].values())
    examples = (answer.get("content", {}).get(PROBLEM, {}).get("examples", {}).get(slug) for answer in answers)
    found = [resolved(example, api)["value"] for example in examples if example]
    assert found
    assert_fits(found[0], {"$ref": "#/components/schemas/Problem"}, api)


def test_every_operation_that_can_start_a_job_has_its_callback(api: Json) -> None:
    assert {(path, method) for path, method, operation in operations(api) if "callbacks" in operation} == STARTS
    for path, method in STARTS:
        ((expression, item),) = api["paths"][path][method]["callbacks"][CALLBACK_NAME].items()
        assert expression == f"{{{CallbackUrl.BODY if path == '/jobs' else CallbackUrl.QUERY}}}"
        assert resolved(item, api) == resolved(api["webhooks"][CALLBACK_NAME], api)
    sent = resolved(api["webhooks"][CALLBACK_NAME], api)["post"]
    assert [header["name"] for header in sent["parameters"]] == ["webhook-id", "webhook-timestamp", "webhook-signature"]


def test_every_callback_url_that_is_taken_is_one_of_a_callback(api: Json) -> None:
    for path, method, operation in operations(api):
        taken = {parameter["name"] for parameter in operation.get("parameters", ())}
        if "callback_url" in taken:
            assert (path, method) in STARTS


def test_every_answer_is_declared_with_its_request_id_and_every_status_is_named(api: Json) -> None:
    for path, method, operation in operations(api):
        assert "default" not in operation["responses"]
        for status, answer in operation["responses"].items():
            headers = resolved(answer, api).get("headers", {})
            assert "X-Request-ID" in headers, (path, method, status)
            assert status not in ("429", "503") or "Retry-After" in headers, (path, method, status)


def test_every_security_scheme_is_declared(api: Json) -> None:
    assert api["components"]["securitySchemes"] == SECURITY_SCHEMES
    for requirement in api.get("security", ()):
        assert set(requirement) <= set(SECURITY_SCHEMES)


def test_every_body_and_answer_has_an_example_that_fits_its_schema(api: Json) -> None:
    for _, _, operation in [*operations(api), ("", "", resolved(api["webhooks"][CALLBACK_NAME], api)["post"])]:
        answers = [resolved(answer, api) for answer in operation["responses"].values()]
        for described in (operation.get("requestBody", {}), *answers):
            for content in described.get("content", {}).values():
                examples = [resolved(each, api)["value"] for each in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                assert examples, operation["operationId"]
                for example in examples:
                    assert_fits(example, content["schema"], api)


def stock() -> View:
    async def view() -> None:
        """A new view, which nobody calls."""

    return view


def test_an_apps_model_took_the_place_of_a_model_of_the_service_with_the_same_name() -> None:
    def named(name: str, **members: Any) -> Any:
        return create_model(name, __module__=f"shop.{'_'.join(members)}", **members)

    blueprint = Blueprint("shop", __name__)
    for path, model in (
        ("jobs", named("Job", title=(str, ...))),
        ("apples", named("Item", weight=(int, ...))),
        ("nails", named("Item", length=(int, ...))),
        ("problems", named("Problem", reason=(str, ...))),
    ):
        declared = declare("Shop", path, answers={200: Answer("One", model)})
        blueprint.add_url_rule(f"/shop/{path}", path, declared(stock()))
    app = create_app(Settings(), tutorial=False, blueprints=[blueprint])
    api: Json = json.loads(document(app))
    OpenAPIV31SpecValidator(api).validate()

    def members(path: str, status: str = "200", media_type: str = "application/json") -> set[str]:
        answer = resolved(api["paths"][path]["get"]["responses"][status], api)
        return set(resolved(answer["content"][media_type]["schema"], api)["properties"])

    shop = [members(f"/shop/{path}") for path in ("jobs", "apples", "nails", "problems")]
    assert shop == [{"title"}, {"weight"}, {"length"}, {"reason"}]
    assert {"id", "status", "links"} <= members("/jobs/{job_id}")
    assert "request_id" in members("/jobs/{job_id}", "404", PROBLEM)
    assert {"Job", "Problem"} <= api["components"]["schemas"].keys()
