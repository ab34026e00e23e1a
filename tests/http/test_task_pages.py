"""The console's pages of tasks, as the server makes them."""

import re
from html import unescape
from typing import cast
from urllib.parse import urlsplit

from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from tests.secrets import secret

from .conftest import ended
from .test_job_pages import post, sent, shown


async def test_a_task_is_paused_resumed_and_started_now(jobs: QuartClient) -> None:
    listed = await shown(jobs, "/console/tasks")
    assert "/console/tasks/comic" in listed
    assert 'Run now<span class="unseen">: rarely' in listed
    assert await post(jobs, "/console/tasks/echo/pause", {}) == {"": ["/console/tasks"], "notice": ["paused"]}
    assert "state-paused" in await shown(jobs, "/console/tasks/echo")
    went = await post(jobs, "/console/tasks/echo", {"arg.text": "hello"})
    [path] = went[""]
    job = await (await jobs.get(path.removeprefix("/console"))).get_json()
    assert (job["task"], job["status"], job["args"]["text"]) == ("echo", "queued", "hello")
    paused = await shown(jobs, path)
    assert "an admin resumes it" in paused
    [there] = re.findall(r'<form method="post" action="([^"]+resume)"><input type="hidden" name="job" value="', paused)
    assert await post(jobs, there, {"job": job["id"]}) == {"": [path], "notice": ["resumed"]}
    for action in ("pause", "resume"):  # on the page of the task
        assert f'action="/console/tasks/echo/{action}"' in await shown(jobs, "/console/tasks/echo")
        assert (await post(jobs, f"/console/tasks/echo/{action}", {"task": "echo"}))[""] == ["/console/tasks/echo"]
    assert await post(jobs, "/console/tasks/echo/resume", {}) == {"": ["/console/tasks"], "notice": ["resumed"]}
    assert (await ended(jobs, job))["status"] == "succeeded"
    [path] = (await post(jobs, "/console/tasks/rarely/run", {}))[""]
    assert (await (await jobs.get(path.removeprefix("/console"))).get_json())["task"] == "rarely"
    assert "o task has the name &#39;nobody&#39;" in await shown(jobs, "/console/tasks/nobody", 404)


async def test_wrong_arguments_are_shown_at_their_fields(jobs: QuartClient) -> None:
    response = await sent(jobs, "/console/tasks/comic", {"arg.number": "1000"})
    assert response.status_code == 422
    page = await response.get_data(as_text=True)
    assert "less than or equal to 100" in page
    assert 'value="1000"' in page
    assert re.findall(r"<[^>]+ autofocus[^>]*>", page) == re.findall(r'<input id="arg.number"[^>]*>', page)
    assert (await (await jobs.get("/jobs")).get_json())["items"] == []


async def test_what_a_key_may_not_do_is_not_offered(jobs: QuartClient, job_app: Quart) -> None:
    keys = {
        scope: {"Authorization": f"Bearer {secret((await parts_of(job_app).keys.create(scope.value, [scope]))[1])}"}
        for scope in (Scope.READ, Scope.WRITE, Scope.ADMIN)
    }
    seen = {scope: await shown(jobs, "/console/tasks", headers=keys[scope]) for scope in (Scope.READ, Scope.ADMIN)}
    assert ["echo/pause" in page for page in seen.values()] == [False, True]
    page = await shown(jobs, "/console/tasks/echo", headers=keys[Scope.READ])
    assert ("Submit a job" in page, "echo/pause" in page) == (False, False)
    homes = {scope: await shown(jobs, "/", headers=keys[scope]) for scope in (Scope.READ, Scope.ADMIN)}
    assert [page.count("data-start") for page in homes.values()] == [0, 2]
    assert "Your key has no scope <code>write</code>" in homes[Scope.READ]
    for path in ("/console/tasks/echo/pause", "/console/tasks/rarely/run"):
        assert (await sent(jobs, path, {}, keys[Scope.WRITE])).status_code == 403
    started = await sent(jobs, "/console/tasks/echo", {"arg.text": "x"}, keys[Scope.WRITE])
    assert urlsplit(started.headers["Location"]).path.startswith("/console/jobs/")


@task("Odd.name_1", schedule="0 0 1 1 *")
async def odd(ctx: TaskContext, *, text: str = "<b>") -> None:
    """Does `odd` <script>alert(2)</script> things."""


async def test_a_task_of_any_name_and_summary_has_its_pages(settings: Settings) -> None:
    app = create_app(settings, tutorial=False, tasks=[odd])
    async with app.test_app():
        client = cast("QuartClient", app.test_client())
        listed = await shown(client, "/console/tasks")
        links = {unescape(link) for link in re.findall(r'(?:href|action)="(/console/tasks/Odd[^"]+)"', listed)}
        assert len(links) == 3
        for link in links:
            if link.endswith(("/run", "/pause")):
                went = await sent(client, link, {"task": odd.name})
                assert went.status_code == 303, link
                assert "<script>alert" not in await shown(client, went.headers["Location"])
            else:
                assert "<script>alert" not in await shown(client, link)
        forms = await shown(client, "/console/try")
        [(id, link)] = re.findall(r'id="(task-Odd[^"]+)-title".*?href="([^"]+)"', forms, re.DOTALL)
        assert f'id="{id}"' in (form := await shown(client, unescape(link)))
        assert "<script>alert" not in listed + forms + form
