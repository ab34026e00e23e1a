"""The first page of the console in apps without the tutorials."""

import html
import shlex

from quart_async_api import Settings, TaskContext, create_app, task


@task("nap")
async def nap(ctx: TaskContext) -> None:
    """Do nothing."""


@task("greet")
async def greet(ctx: TaskContext, *, name: str) -> str:
    """Greet someone."""
    return name


async def test_the_four_deliveries_are_of_a_task_that_needs_no_arguments(settings: Settings) -> None:
    app = create_app(settings, tutorial=False, tasks=[nap, greet])
    async with app.test_app():
        page = html.unescape(await (await app.test_client().get("/")).get_data(as_text=True))
    commands = [shlex.split(each.split("</code>")[0]) for each in page.split("<code data-curl>")[1:]]
    jobs = ["-X", "POST", "http://localhost/jobs"]
    body = ["-H", "Content-Type: application/json", "-d"]
    assert commands == [
        ["curl", *jobs, "-H", "Prefer: wait=30", *body, '{"task":"nap"}'],
        ["curl", *jobs, *body, '{"task":"nap"}'],
        ["curl", "-N", *jobs, "-H", "Accept: text/event-stream", *body, '{"task":"nap"}'],
        ["curl", *jobs, *body, '{"task":"nap","callback_url":"https://hooks.example/done"}'],
    ]
    assert "greet" not in page
    assert 'id="one-loop"' not in page


async def test_without_such_a_task_the_page_leads_to_the_forms(settings: Settings) -> None:
    app = create_app(settings, tutorial=False, tasks=[greet])
    async with app.test_app():
        response = await app.test_client().get("/")
        page = await response.get_data(as_text=True)
        forms = await (await app.test_client().get("/console/try/task-greet")).get_data(as_text=True)
    assert 'id="task-greet-name"' in forms
    assert response.status_code == 200
    assert "No task can be started without arguments" in page
    assert "data-curl" not in page
