"""The service on a database of its own. Jobs run when a test says so: no test waits or sleeps."""

from quart_async_api.testing import ServiceUnderTest

from starter.tasks import greet


async def test_a_greeting_is_made_by_a_job(qaa_service: ServiceUnderTest) -> None:
    response = await qaa_service.client.post(
        "/greetings", json={"name": "Ada"}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    qaa_service.assert_enqueued(greet, name="Ada")
    [job] = await qaa_service.drain()
    assert job.result == "Hello, Ada!"
    response = await qaa_service.client.get("/greetings")
    assert await response.get_json() == [{"name": "Ada", "text": "Hello, Ada!"}]


async def test_a_name_is_required(qaa_service: ServiceUnderTest) -> None:
    response = await qaa_service.client.post("/greetings", json={"name": ""})
    assert response.status_code == 422
    qaa_service.refute_enqueued(greet)


async def test_a_second_run_makes_no_second_greeting(qaa_service: ServiceUnderTest) -> None:
    await qaa_service.api.submit("greet", {"name": "Ada"})
    await qaa_service.api.submit("greet", {"name": "Ada"})
    assert [job.result for job in await qaa_service.drain()] == ["Hello, Ada!"] * 2
    response = await qaa_service.client.get("/greetings")
    assert len(await response.get_json()) == 1
