"""The catalogue asks as little as it can, and believes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from random import SystemRandom

import pytest

from quart_async_api.errors import ComicNotFound, UpstreamFailed, UpstreamTimeout
from quart_async_api.settings import Settings
from quart_async_api.upstream.client import UpstreamClient
from quart_async_api.upstream.comics import Comic, ComicCatalogue

from .faults import Fault, FaultyStandIn, document, status


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def catalogue(outside: UpstreamClient, world: FaultyStandIn, clock: Clock) -> AsyncIterator[ComicCatalogue]:
    before = asyncio.all_tasks()
    yield ComicCatalogue(outside, world.url, clock=clock)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() - before if "_fetch" in repr(task)]


async def test_a_comic_is_what_the_upstream_says(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    sent = world.comic(614)
    assert await catalogue.comic(614) == Comic(
        614, str(sent["title"]), str(sent["alt"]), f"{world.url}/comics/614.svg", f"{world.url}/614/"
    )


async def test_a_hundred_comics_are_fetched_at_once(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    world.latency = 0.05
    comics = await asyncio.gather(*(catalogue.comic(num) for num in range(1, 101)))
    assert [comic.num for comic in comics] == list(range(1, 101))
    assert world.most_at_once == 100


async def test_a_comic_is_asked_for_once(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    assert await catalogue.comic(7) is await catalogue.comic(7)
    assert world.calls.total() == 1


async def test_fifty_who_ask_at_once_share_one_call(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    await asyncio.gather(*(catalogue.comic(7) for _ in range(50)), *(catalogue.latest() for _ in range(50)))
    assert world.calls == {"/7/info.0.json": 1, "/info.0.json": 1}


async def test_the_oldest_comic_makes_room(outside: UpstreamClient, world: FaultyStandIn) -> None:
    catalogue = ComicCatalogue(outside, world.url + "/", cache_size=2)
    for num in (1, 2, 1, 3, 1, 2):
        await catalogue.comic(num)
    assert world.calls == {"/1/info.0.json": 1, "/2/info.0.json": 2, "/3/info.0.json": 1}


async def test_a_cancelled_asker_leaves_the_call_to_the_others(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    world.latency = 0.05
    askers = [asyncio.create_task(catalogue.comic(7)) for _ in range(3)]
    await world.arrived.wait()
    askers[0].cancel()
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1] == outcomes[2] == await catalogue.comic(7)
    assert world.calls.total() == 1


async def test_when_all_askers_are_cancelled_the_call_is_too(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    world.faults["/7/info.0.json"] = Fault.HANG
    askers = [asyncio.create_task(catalogue.comic(7)) for _ in range(3)]
    await world.arrived.wait()
    for asker in askers:
        asker.cancel()
    await asyncio.wait(askers)
    del world.faults["/7/info.0.json"]
    assert (await catalogue.comic(7)).num == 7  # a new call, not the dying one


async def test_a_failure_is_shared_by_those_who_wait_and_no_one_else(
    catalogue: ComicCatalogue, world: FaultyStandIn
) -> None:
    world.faults["/7/info.0.json"] = status(500)
    outcomes = await asyncio.gather(*(catalogue.comic(7) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UpstreamFailed}
    assert world.calls.total() == 1
    del world.faults["/7/info.0.json"]
    assert (await catalogue.comic(7)).num == 7


async def test_a_failure_that_comes_as_its_last_asker_leaves_is_not_reported_as_unseen(
    catalogue: ComicCatalogue, world: FaultyStandIn
) -> None:
    world.faults["/7/info.0.json"] = status(500)
    before = asyncio.all_tasks()
    asker = asyncio.create_task(catalogue.comic(7))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (call,) = [task for task in asyncio.all_tasks() - before if task is not asker]
    call.add_done_callback(lambda _: asker.cancel())
    with pytest.raises(asyncio.CancelledError):
        await asker


async def test_the_latest_is_asked_once_a_minute(catalogue: ComicCatalogue, world: FaultyStandIn, clock: Clock) -> None:
    assert await catalogue.latest() == world.newest
    clock.now += 59.9
    await catalogue.latest()
    assert world.calls.total() == 1
    world.newest += 1
    clock.now += 0.1
    assert await catalogue.latest() == world.newest
    assert world.calls.total() == 2


async def test_a_failed_latest_is_asked_again(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    world.faults["/info.0.json"] = status(500)
    with pytest.raises(UpstreamFailed):
        await catalogue.latest()
    del world.faults["/info.0.json"]
    assert await catalogue.latest() == world.newest


async def test_a_number_without_a_comic_is_not_found(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    with pytest.raises(ComicNotFound):
        await catalogue.comic(world.newest + 1)
    assert world.calls.total() == 1


@pytest.mark.parametrize("num", [404, 0, -1])
async def test_a_number_that_can_have_no_comic_is_not_asked_for(
    catalogue: ComicCatalogue, world: FaultyStandIn, num: int
) -> None:
    with pytest.raises(ComicNotFound):
        await catalogue.comic(num)
    assert not world.calls


async def test_picked_numbers_are_different_and_exist(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    picked = await catalogue.pick(10_000, SystemRandom())
    assert sorted(picked) == [num for num in range(1, world.newest + 1) if num != 404]
    assert len(set(await catalogue.pick(100, SystemRandom()))) == 100


async def test_numbers_are_not_picked_again_soon(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    """Two calls at a time had a comic in common: one of them waited for it less."""
    world.newest = 102
    picked = [num for _ in range(17) for num in await catalogue.pick(6, SystemRandom())]
    assert sorted(picked) == list(range(1, 103))
    assert len(set(await catalogue.pick(102, SystemRandom()))) == 102


@pytest.mark.parametrize(("newest", "numbers"), [(1, [1]), (403, list(range(1, 404))), (405, [*range(1, 404), 405])])
async def test_all_are_picked_where_fewer_exist(
    catalogue: ComicCatalogue, world: FaultyStandIn, newest: int, numbers: list[int]
) -> None:
    world.newest = newest
    assert sorted(await catalogue.pick(1000, SystemRandom())) == numbers


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: str(fault.name))
async def test_every_fault_is_an_upstream_error(world: FaultyStandIn, fault: Fault) -> None:
    world.faults["/7/info.0.json"] = fault
    expected = UpstreamTimeout if fault in (Fault.HANG, Fault.HANG_IN_BODY) else UpstreamFailed
    limits = Settings(upstream_timeout=0.3 if expected is UpstreamTimeout else 30, upstream_max_bytes=1_000_000)
    async with UpstreamClient(limits) as client:
        with pytest.raises(expected):
            await ComicCatalogue(client, world.url).comic(7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num": 8},
        {"num": "7"},
        {"num": True},
        {"title": None},
        {"alt": 1},
        {"img": ""},
        {"img": "javascript:alert(1)"},
        {"img": "data:image/png;base64,AAAA"},
        {"img": "https://"},
        {"img": "http://[/"},
    ],
)
async def test_nonsense_is_a_failure(catalogue: ComicCatalogue, world: FaultyStandIn, wrong: dict[str, object]) -> None:
    world.faults["/7/info.0.json"] = document(world.comic(7) | wrong)
    with pytest.raises(UpstreamFailed):
        await catalogue.comic(7)


@pytest.mark.parametrize(
    ("sent", "resolved"),
    [
        ("https://imgs.example/a.png", "https://imgs.example/a.png"),
        ("//imgs.example/a.png", "http://imgs.example/a.png"),
        ("/comics/a.png", "{url}/comics/a.png"),
        ("a.png", "{url}/7/a.png"),
    ],
)
async def test_a_relative_image_is_resolved_as_a_browser_would(
    catalogue: ComicCatalogue, world: FaultyStandIn, sent: str, resolved: str
) -> None:
    world.faults["/7/info.0.json"] = document(world.comic(7) | {"img": sent})
    assert (await catalogue.comic(7)).img == resolved.format(url=world.url)


async def test_markup_in_a_title_is_left_as_it_was_sent(catalogue: ComicCatalogue, world: FaultyStandIn) -> None:
    world.faults["/7/info.0.json"] = document(world.comic(7) | {"title": "<i>a</i> &amp; b", "alt": ""})
    comic = await catalogue.comic(7)
    assert (comic.title, comic.alt) == ("<i>a</i> &amp; b", "")


async def test_a_shared_call_belongs_to_the_trace_of_its_first_asker(limits: Settings, world: FaultyStandIn) -> None:
    current: ContextVar[str] = ContextVar("current", default="none")

    async def ask(shared: ComicCatalogue, trace: str) -> None:
        current.set(trace)
        await shared.comic(7)

    async with UpstreamClient(limits, headers=lambda: {"traceparent": current.get()}) as client:
        shared = ComicCatalogue(client, world.url)
        await asyncio.gather(ask(shared, "00-first"), ask(shared, "00-second"))
    assert [request.headers["traceparent"] for request in world.seen] == ["00-first"]
