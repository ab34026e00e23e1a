"""Every request example of the document is sent to the running service, and is answered as the document says."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import Json, Service, read_document
from .test_document import assert_fits, operations, resolved

pytestmark = pytest.mark.process

_NUMBERS = itertools.count(1)


def requests_of(api: Json) -> Iterator[Any]:
    """Each body example without further parameters, and the first with all the parameters that have one."""
    for path, method, operation in operations(api):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = [resolved(each, api)["value"] for each in content.get("examples", {}).values()] or [None]
        given = [each for each in operation.get("parameters", ()) if "example" in each and each["in"] != "path"]
        for number, (body, parameters) in enumerate([*((body, []) for body in bodies), (bodies[0], given)]):
            if number < len(bodies) or given:
                yield pytest.param(path, method, operation, body, parameters, id=f"{method} {path} {number}")


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.base_url, headers=dict(service.headers), timeout=60) as client:
        yield client


def made(client: httpx.Client, name: str, path: str, method: str) -> str:
    """The id of something that the example can be about."""
    if name == "user_id":
        sent = {"name": "Ada", "email": f"ada{next(_NUMBERS)}@example.com"}
        return str(client.post("/add-user", json=sent).json()["user"]["id"])
    assert name == "job_id"
    waits = method == "delete" or path.endswith("/retry")
    job: Json = client.post(
        "/jobs",
        json={"task": "test", **({"delay": 60} if waits else {})},
        headers={} if waits else {"Prefer": "wait=30"},
    ).json()
    if path.endswith("/retry"):
        assert client.delete(f"/jobs/{job['id']}").status_code == 204
    return str(job["id"])


def refused(path: str, *, keyed: bool) -> int | None:
    """What an example that stands for something that this service lacks is answered with."""
    if path in ("/metrics", "/workers", "/figures") and not keyed:
        return 403
    return 404 if set(re.findall(r"{(\w+)}", path)) - {"user_id", "job_id", "slug"} else None  # a callback, of its job


@pytest.mark.parametrize(("path", "method", "operation", "body", "parameters"), list(requests_of(read_document())))
def test_an_example_is_answered_as_the_document_says(
    client: httpx.Client, api: Json, path: str, method: str, operation: Json, body: Any, parameters: list[Json]
) -> None:
    examples = {each["name"]: each.get("example") for each in operation.get("parameters", ())}
    makers = {"user_id", "job_id"}
    address = re.sub(
        r"{(\w+)}",
        lambda found: made(client, found[1], path, method) if found[1] in makers else str(examples[found[1]]),
        path,
    )
    keyed = "Authorization" in client.headers
    headers = {each["name"]: each["example"] for each in parameters if each["in"] == "header"}
    query = {each["name"]: each["example"] for each in parameters if each["in"] == "query"}
    with client.stream(method, address, params=query, headers=headers, json=body) as response:
        assert response.status_code < 400 or response.status_code == refused(path, keyed=keyed), response.read()
        answer = resolved(operation["responses"][str(response.status_code)], api)
        if path == "/add-user":
            client.delete(response.headers["Location"])  # the next one has the same email
        assert all(
            name in response.headers for name, each in answer["headers"].items() if resolved(each, api).get("required")
        )
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        assert response.status_code == 204 or media_type in answer["content"]
        if media_type.endswith("json"):
            response.read()
            assert_fits(response.json(), answer["content"][media_type]["schema"], api)
