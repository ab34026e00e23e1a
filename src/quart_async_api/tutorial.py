"""The coroutines of the tutorials as tasks: the smallest examples of tasks."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import Field, JsonValue
from pydantic_core import from_json
from typing_extensions import TypedDict

from .errors import DataFileUnusable, UpstreamError, UpstreamFailed
from .tasks import TaskContext, task
from .upstream.addresses import without_credentials
from .upstream.client import fetch_json
from .upstream.comics import ComicCatalogue

STEPS = 10


class DataFile(TypedDict):
    result: JsonValue


@task("get")
async def get(ctx: TaskContext) -> DataFile:
    """Read the data file without blocking the event loop, after the delay."""
    await asyncio.sleep(ctx.settings.delay)
    try:
        return {"result": from_json(await asyncio.to_thread(ctx.settings.data_file.read_bytes), allow_inf_nan=False)}
    except (OSError, ValueError) as error:
        raise DataFileUnusable("QAA_DATA_FILE does not name a readable JSON file") from error


class Answer(TypedDict):
    result: int


@task("test")
async def test(ctx: TaskContext) -> Answer:
    """Wait for the delay. Any number of calls wait at the same time."""
    await asyncio.sleep(ctx.settings.delay)
    return {"result": 1}


class Done(TypedDict):
    message: str


@task("start-task")
async def start_task(ctx: TaskContext) -> Done:
    """Work in the background for the delay and report progress."""
    for step in range(STEPS):
        await ctx.progress(step, STEPS)
        await asyncio.sleep(ctx.settings.delay / STEPS)
    await ctx.progress(STEPS, STEPS)
    await ctx.log("Background task completed")
    return {"message": "Background task completed"}


class Gathered(TypedDict):
    results: list[str]
    elapsed: float


async def _complete(number: int, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"Task {number} Complete"


@task("gather")
async def gather(ctx: TaskContext) -> Gathered:
    """Run a coroutine of 2 s and one of 3 s concurrently: 3 s, not 5 s."""
    started = time.perf_counter()
    results = await asyncio.gather(_complete(1, 2), _complete(2, 3))
    return {"results": list(results), "elapsed": _since(started)}


class Row(TypedDict):
    id: int
    name: str
    role: str


class Rows(TypedDict):
    data: list[Row]
    elapsed: float


_ROWS: list[Row] = [
    {"id": 1, "name": "Ada Lovelace", "role": "analyst"},
    {"id": 2, "name": "Grace Hopper", "role": "compiler"},
    {"id": 3, "name": "Edsger Dijkstra", "role": "semaphore"},
]


@task("mock-db")
async def mock_db(ctx: TaskContext) -> Rows:
    """Return sample rows after a simulated query latency."""
    started = time.perf_counter()
    await asyncio.sleep(ctx.settings.delay)
    return {"data": _ROWS, "elapsed": _since(started)}


class External(TypedDict):
    url: str
    status: int
    data: JsonValue
    elapsed: float


@task("external-api")
async def external_api(ctx: TaskContext) -> External:
    """Fetch one JSON document of another service through the shared client."""
    started = time.perf_counter()
    url = ctx.settings.external_api_url
    status, data = await fetch_json(ctx.http, url)
    return {
        "url": without_credentials(url),
        "status": status,
        "data": cast("JsonValue", data),
        "elapsed": _since(started),
    }


@dataclass(frozen=True, slots=True)
class FetchedComic:
    num: int
    title: str
    alt: str
    img: str
    url: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class MissingComic:
    num: int
    title: str
    detail: str


class Comics(TypedDict):
    comics: list[FetchedComic]
    errors: list[MissingComic]
    elapsed: float
    sequential_elapsed: float


@task("comic")
async def comic(
    ctx: TaskContext,
    *,
    number: Annotated[int, Field(ge=1, le=100, description="Number of random comics")] = 5,
    num: Annotated[
        tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...],
        Field(max_length=100, description="Numbers of the comics, in this order, instead of random ones"),
    ] = (),
    mode: Annotated[
        Literal["concurrent", "sequential"],
        Field(description="Fetch concurrently, or one after another to see the difference"),
    ] = "concurrent",
) -> Comics:
    """Fetch comics concurrently with one client, and measure the time saved."""
    started = time.perf_counter()
    catalogue = ctx.resource(ComicCatalogue)
    numbers = list(dict.fromkeys(num)) or await catalogue.pick(number, random.SystemRandom())
    if mode == "concurrent":
        outcomes = await asyncio.gather(*(_fetch(catalogue, wanted) for wanted in numbers))
    else:
        outcomes = [await _fetch(catalogue, wanted) for wanted in numbers]
    comics = [outcome for outcome in outcomes if isinstance(outcome, FetchedComic)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, MissingComic)]
    if not comics:
        raise UpstreamFailed(f"none of {len(errors)} comics could be fetched; the first error: {errors[0].detail}")
    return {
        "comics": comics,
        "errors": errors,
        "elapsed": _since(started),
        "sequential_elapsed": round(sum(fetched.elapsed for fetched in comics), 3),
    }


async def _fetch(catalogue: ComicCatalogue, num: int) -> FetchedComic | MissingComic:
    started = time.perf_counter()
    try:
        found = await catalogue.comic(num)
    except UpstreamError as error:
        return MissingComic(num, (type(error).__doc__ or "").rstrip("."), str(error))
    return FetchedComic(found.num, found.title, found.alt, found.img, found.url, _since(started))


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
