"""The result of a task, whatever it is made of, is the same in every delivery, and what is no JSON fails in all of them."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field
from quart import Response
from quart.testing import QuartClient

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.app import App
from quart_async_api.http.delivery.delivers import delivers
from tests.callbacks.receiver import Receiver
from tests.each import each

from .conftest import ended, read_events, started


class Item(BaseModel):
    weight: Decimal = Field(serialization_alias="weightInKilograms")
    packed_at: datetime = Field(alias="packedAt")


class Parcel(BaseModel):
    identity: UUID = Field(serialization_alias="id")
    items: list[Item]
    label: bytes
    transit: timedelta
    ratio: float
    many: int
    missing: None = None


PARCEL = Parcel(
    identity=UUID(int=7),
    items=[Item(weight=Decimal("1.50"), packedAt=datetime(2026, 11, 21, 7, 32, 57, tzinfo=UTC))],
    label="Grüße \u2028".encode(),
    transit=timedelta(days=1, seconds=3),
    ratio=1e-7,
    many=10**30,
)
TEXT = (
    '{"id":"00000000-0000-0000-0000-000000000007","items":[{"weightInKilograms":"1.50","packedAt":"2026-11-21T07:32:57Z"}],'
    '"label":"Grüße \u2028","transit":"P1DT3S","ratio":1e-7,"many":1000000000000000000000000000000,"missing":null}'
).encode()


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    value: float = float("nan")
    text: str = "NaN"


class Larger(Item):
    hidden: str = "not in the declared shape"


@task("parcel")
async def parcel(ctx: TaskContext) -> Parcel:
    """Return what JSON has no types for."""
    return PARCEL


@task("subclass")
async def subclass(ctx: TaskContext) -> Item:
    """Return more than it says."""
    return Larger(weight=Decimal(1), packedAt=datetime(2026, 1, 1, tzinfo=UTC))


@task("no-json")
async def no_json(ctx: TaskContext, *, what: str) -> Any:
    """Return what no reader of JSON takes."""
    values = {
        "NaN": {"value": [float("nan"), None]},
        "infinity": Item.model_construct(weight=Decimal(1), packed_at=float("inf")),
        "NaN of a model": Constants(),
        "infinity of a model": Constants(value=float("inf")),
        "a long number": 10**5000,
        "half a character": b"\xff",
        "half a pair": "\ud800",
    }
    return values[what]


@task("says-nan")
async def says_nan(ctx: TaskContext) -> list[str]:
    """Return texts that look like what is no JSON."""
    return ["NaN", "Infinity", "7" * 5000]


class Box(BaseModel):
    width: int = Field(alias="boxWidth")
    height: int = Field(default=2, serialization_alias="boxHeight")


@task("measure")
async def measure(
    ctx: TaskContext, *, start: Annotated[int, Field(alias="from")], boxes: tuple[Box, ...] = (), fails: bool = False
) -> list[int]:
    """Take arguments whose names are no names in Python."""
    if fails:
        raise RuntimeError
    return [start, *(box.width for box in boxes)]


TASKS = ModuleType("parcels")
vars(TASKS).update(parcel=parcel, subclass=subclass, no_json=no_json, says_nan=says_nan, measure=measure)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[App]:
    app = create_app(
        settings.model_copy(update={"callback_allow_private": True, "callback_schedule": (0.0,)}), tasks=[TASKS]
    )
    for one in (parcel, subclass, no_json, says_nan, measure):

        async def as_it_is(result: Any) -> None:
            """As it is."""

        app.add_url_rule(f"/{one.name}", one.name, delivers(one)(as_it_is))

    async def shown(result: dict[str, Any]) -> Response:
        """As a page."""
        return Response(f"<p>{result['items'][0]['weightInKilograms']} kg</p>", content_type="text/html")

    app.add_url_rule("/page", "page", delivers(parcel)(shown))
    async with app.test_app():
        await app.service.secrets.create()
        yield app


async def job_of(client: QuartClient, path: str, **query: str) -> dict[str, Any]:
    response = await client.get(path, headers={"Prefer": "respond-async"}, query_string=query)
    return await ended(client, await response.get_json())


async def bodies(client: QuartClient, path: str, **query: str) -> tuple[dict[str, Any], list[tuple[int, str, bytes]]]:
    """A job of the route, and the answers that are the result alone: waiting, waiting for a job, and of the job."""
    job = await job_of(client, path, **query)
    answers = [
        await client.get(path, query_string=query),
        await client.get(path, headers={"Prefer": "respond-async, wait=30"}, query_string=query),
        await client.get(job["links"]["result"]),
    ]
    return job, [(each.status_code, each.content_type or "", await each.get_data(as_text=False)) for each in answers]


async def test_a_model_with_an_alias_had_other_names_for_whoever_waited(client: QuartClient) -> None:
    job, answers = await bodies(client, "/parcel")
    assert answers == [(200, "application/json", TEXT)] * 3
    links = job["links"]
    for path in (links["self"], "/jobs"):
        document = await (await client.get(path)).get_data(as_text=False)
        assert b'"result":' + TEXT in document, path
    expected = json.loads(TEXT)
    stream = await (await client.get(links["events"])).get_data(as_text=True)
    assert {json.dumps(told.data["result"]) for told in read_events(stream)} == {json.dumps(expected)}
    async with client.websocket(links["websocket"]) as socket:
        assert json.loads(await socket.receive())["data"]["result"] == expected
    async with Receiver() as receiver:
        await client.get("/parcel", query_string={"callback_url": receiver.url})
        [sent] = await receiver.got(1)
    assert json.loads(sent.body)["data"]["result"] == expected


async def test_a_route_renders_what_its_callers_read(client: QuartClient) -> None:
    _, (waited, waited_for_a_job, of_the_job) = await bodies(client, "/page")
    assert waited == waited_for_a_job == (200, "text/html", b"<p>1.50 kg</p>")
    assert of_the_job == (200, "application/json", TEXT)


async def test_the_schema_of_a_result_names_what_is_sent(client: QuartClient) -> None:
    tasks = (await (await client.get("/tasks")).get_json())["items"]
    [schema] = [one["result_schema"] for one in tasks if one["name"] == "parcel"]
    assert list(schema["properties"]) == list(json.loads(TEXT))


async def test_a_subclass_was_sent_whole_to_whoever_waited(client: QuartClient) -> None:
    _, answers = await bodies(client, "/subclass")
    assert len(set(answers)) == 1
    assert b"hidden" not in answers[0][2]


async def test_a_text_that_looks_like_no_json_is_sent(client: QuartClient) -> None:
    _, answers = await bodies(client, "/says-nan")
    assert set(answers) == {(200, "application/json", b'["NaN","Infinity","' + b"7" * 5000 + b'"]')}


@each(
    "what",
    [
        "NaN",
        "infinity",
        "NaN of a model",
        "infinity of a model",
        "a long number",
        "half a character",
        "half a pair",
    ],
)
async def test_what_no_reader_of_json_takes_fails_in_every_delivery(client: QuartClient, what: str) -> None:
    job, answers = await bodies(client, "/no-json", what=what)
    assert job["error"]["type"] == "/problems/result-unusable"
    for status, content_type, body in answers:
        assert (status, content_type) == (500, "application/problem+json")
        problem = json.loads(body)
        assert (problem["type"], problem["detail"]) == (job["error"]["type"], job["error"]["detail"])


async def test_every_job_with_an_argument_of_another_name_failed_as_outdated(client: QuartClient) -> None:
    args = {"from": 1, "boxes": [{"boxWidth": 7}]}
    response = await client.post("/jobs", json={"task": "measure", "args": args}, headers={"Prefer": "wait=30"})
    job = await response.get_json()
    assert (job["status"], job["result"]) == ("succeeded", [1, 7])
    _, answers = await bodies(client, "/measure", **{"from": "3"})
    assert answers == [(200, "application/json", b"[3]")] * 3
    response = await client.post("/jobs", json={"task": "measure", "args": {"start": 1}})
    assert response.status_code == 422, "callers use the name in `args_schema`"

    failed = await started(client, "measure", args=args | {"fails": True})
    await ended(client, failed)
    again = await client.post(f"/jobs/{failed['id']}/retry")
    assert again.status_code == 202
    assert (await ended(client, await again.get_json()))["error"]["type"] == "/problems/task-failed"
