"""An app of one's own by `create_app`: without the tutorials, with its own name, and in the role of a worker."""

import json
import re

from quart import Blueprint

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.app import App
from quart_async_api.service import Role

blueprint = Blueprint("shop", __name__)


@task("pack")
async def pack(ctx: TaskContext, *, order: int = 1) -> int:
    """Pack an order."""
    return order


@task("ship")
async def ship(ctx: TaskContext, *, order: int) -> int:
    """Ship an order."""
    return order


@blueprint.get("/stock")
async def stock() -> str:
    return "3"


def shop(settings: Settings) -> App:
    return create_app(settings, tutorial=False, title="Shop", version="2.1", tasks=[pack, ship], blueprints=[blueprint])


async def test_an_app_without_the_tutorials_has_what_is_left_and_its_own(settings: Settings) -> None:
    app = shop(settings)
    async with app.test_app():
        client = app.test_client()
        for path in ("/test", "/comic", "/users", "/start-task", "/console/users"):
            assert (await client.get(path)).status_code == 404, path
        assert await (await client.get("/stock")).get_data() == b"3"
        tasks = json.loads(await (await client.get("/tasks")).get_data())["items"]
        assert [each["name"] for each in tasks] == ["pack", "ship", "jobs-bulk"]
        document = json.loads(await (await client.get("/openapi.json")).get_data())
        home = await (await client.get("/")).get_data(as_text=True)
        docs, forms = await client.get("/docs"), await client.get("/console/try")
        for path in ("/console/jobs", "/console/callbacks", "/console/overview", "/console/tasks", "/console/keys"):
            page = await (await client.get(path)).get_data(as_text=True)
            assert not re.search(r"/?(start-task|add-user|console/users|/test\b)", page), path
    assert (document["info"]["title"], document["info"]["version"]) == ("Shop", "2.1")
    assert "license" not in document["info"]
    named = re.findall(r"\b(?:start-task|comic|tutorial)s?\b", json.dumps(document))
    assert named == []
    assert not {"/test", "/users", "/comic"} & document["paths"].keys()
    assert (docs.status_code, forms.status_code) == (200, 200)
    assert 'data-task="pack"' in home
    assert home.count("Shop") == 2
    assert re.search(r"<title>.+ · Shop</title>", home)
    assert re.search(r'<a class="brand".+>Shop</a>', home)
    for absent in ('data-task="ship"', "/console/users", "/comic", "Differences from the tutorials"):
        assert absent not in home


async def test_the_console_of_an_app_whose_tasks_all_need_arguments_offers_none(settings: Settings) -> None:
    app = create_app(settings, tutorial=False, tasks=[ship])
    async with app.test_app():
        home = await app.test_client().get("/")
        page = await home.get_data(as_text=True)
    assert home.status_code == 200
    assert "data-task" not in page


async def test_a_worker_answers_health_checks_alone_and_runs_the_jobs_of_its_queues(settings: Settings) -> None:
    app = shop(settings)
    app.take(Role(serves=False))
    async with app.test_app():
        client = app.test_client()
        for path in ("/health/live", "/health/ready"):
            assert (await client.get(path)).status_code == 200
        for path in ("/", "/stock", "/jobs", "/static/style.css"):
            assert (await client.get(path)).status_code == 404
        job = await app.service.submissions.submit(pack, pack.arguments(order=3))
        ended = await app.service.submissions.wait(job.id, 10)
    assert ended.result == "3"
