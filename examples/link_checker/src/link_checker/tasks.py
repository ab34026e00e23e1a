"""The tasks: look at one link, and at all links of a page. They import nothing of the service but what a task is given."""

import asyncio
import time
from typing import Annotated

import httpx
from pydantic import Field, HttpUrl
from typing_extensions import TypedDict

from quart_async_api import Backoff, TaskContext, task

from .links import links_of


class Link(TypedDict):
    """`status` is None where there was no answer at all; `problem` says why then."""

    url: str
    status: int | None
    problem: str | None
    elapsed: float


class SiteReport(TypedDict):
    url: str
    checked: int
    broken: list[Link]
    elapsed: float


@task(
    "check-link",
    retries=2,
    backoff=Backoff(initial=0.2, maximum=5),
    timeout=30,
    retryable=(httpx.TransportError,),
)
async def check_link(ctx: TaskContext, *, url: HttpUrl) -> Link:
    """Ask for one address; a host that cannot be reached is asked twice more, later."""
    return await _answer(ctx.http, str(url))


@task("check-site", timeout=600)
async def check_site(
    ctx: TaskContext,
    *,
    url: HttpUrl,
    at_once: Annotated[int, Field(ge=1, le=50, description="links that are asked for at the same time")] = 10,
) -> SiteReport:
    """Ask for every link of a page, and name the broken ones."""
    started = time.perf_counter()
    page = await ctx.http.get(str(url))
    page.raise_for_status()
    # Parsing a long page takes a while that others would wait for.
    links = await asyncio.to_thread(links_of, page.text, str(page.url))
    await ctx.log(f"{len(links)} links")
    slots = asyncio.Semaphore(at_once)
    done = 0

    async def look(link: str) -> Link:
        nonlocal done
        async with slots:
            try:
                found = await _answer(ctx.http, link)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                found = {"url": link, "status": None, "problem": str(error) or type(error).__name__, "elapsed": 0.0}
        done += 1
        await ctx.progress(done, len(links), link)
        if is_broken(found):
            await ctx.log(f"broken: {link} ({found['status'] or found['problem']})")
        return found

    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(look(link)) for link in links]
    return {
        "url": str(page.url),
        "checked": len(links),
        "broken": [link for link in (look.result() for look in looks) if is_broken(link)],
        "elapsed": _since(started),
    }


def is_broken(link: Link) -> bool:
    return link["status"] is None or link["status"] >= 400


async def _answer(http: httpx.AsyncClient, url: str) -> Link:
    started = time.perf_counter()
    async with http.stream("GET", url) as response:  # the status alone: what is behind it may be long
        return {"url": url, "status": response.status_code, "problem": None, "elapsed": _since(started)}


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
