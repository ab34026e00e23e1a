"""The console's pages of jobs, as the server makes them."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from quart import Quart, Response
from quart.testing import QuartClient

from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from quart_async_api.jobs import tally
from tests.secrets import secret

from .conftest import Document, Watch, all_jobs, ended, running, started
from .job_tasks import gate

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


async def shown(client: QuartClient, path: str, status: int = 200, headers: dict[str, str] | None = None) -> str:
    """The text of a page."""
    response: Response = await client.get(path, headers=PAGE | (headers or {}))
    assert (response.status_code, response.mimetype) == (status, "text/html"), await response.get_data(as_text=True)
    return await response.get_data(as_text=True)


def rows(page: str) -> list[str]:
    """The ids of the jobs in the list."""
    return re.findall(r'<tr id="job-([^"]+)"', page)


def tabs(page: str) -> dict[str, str]:
    """The counts of the list by status."""
    return dict(re.findall(r'<a href="[^"]*"[^>]*>(\w+) <span class="count">([^<]+)</span>', page))


async def sent(client: QuartClient, path: str, form: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """The answer to a form; a list stands for a repeated field."""
    content = {"Content-Type": "application/x-www-form-urlencoded"}
    data = urlencode(form, doseq=True)
    return await client.post(path, data=data, headers=PAGE | content | (headers or {}))


async def post(client: QuartClient, path: str, form: dict[str, Any]) -> dict[str, list[str]]:
    """Send a form. Returns the query of the page to go to, with its path under ''."""
    response = await sent(client, path, form)
    assert response.status_code == 303, await response.get_data(as_text=True)
    to = urlsplit(response.headers["Location"])
    return {"": [to.path], **parse_qs(to.query)}


async def test_the_list_is_filtered_and_paged_by_its_address(jobs: QuartClient, watch: Watch) -> None:
    assert "There are no jobs yet" in await shown(jobs, "/console/jobs")
    held = await running(jobs, watch, "console list")
    failed = [(await ended(jobs, await started(jobs, "raises")))["id"] for _ in range(26)]
    later = await started(jobs, "echo", args={"text": "x" * 5000}, delay=60)
    page = await shown(jobs, "/console/jobs")
    assert rows(page) == [later["id"], *reversed(failed[2:])]
    assert tabs(page) == {
        "all": "28", "queued": "1", "running": "1", "succeeded": "0", "failed": "26", "cancelled": "0"
    }  # fmt: skip
    assert "in 59 s" in page
    assert "(long arguments)" in page
    assert "the secret reason" not in page
    [older] = re.findall(r'href="([^"]+)" rel="next"', page)
    assert rows(await shown(jobs, older.replace("&amp;", "&"))) == [failed[1], failed[0], held["id"]]
    assert rows(await shown(jobs, "/console/jobs?status=failed&limit=50")) == failed[::-1]
    went = await jobs.get(
        "/console/jobs?status=failed&task=&created_after=&created_before=&id="
    )  # as the form sends it
    assert (went.status_code, went.headers["Location"]) == (303, "/console/jobs?status=failed")
    assert "in the queue" not in await shown(
        jobs, f"/console/jobs/{later['id']}"
    )  # it said: after in 59 s in the queue
    assert rows(await shown(jobs, "/console/jobs?status=failed&task=held")) == []
    assert rows(await shown(jobs, "/console/jobs?task=held")) == [held["id"]]
    assert rows(await shown(jobs, f"/console/jobs?created_before={held['created_at']}")) == []
    assert "No job matches" in await shown(jobs, "/console/jobs?created_after=2999-01-01T00%3A00")
    assert len(rows(await shown(jobs, "/console/jobs?created_after=2001-01-01T00%3A00&limit=100"))) == 28
    [api] = re.findall(r'href="(/jobs\?[^"]+)"', await shown(jobs, "/console/jobs?status=queued"))
    assert [job["id"] for job in (await (await jobs.get(api.replace("&amp;", "&"))).get_json())["items"]] == [
        later["id"]
    ]
    gate("console list").set()


async def test_the_counts_stop_at_a_bound_but_for_one_status(
    jobs: QuartClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of all jobs is known: if the others are counted to their ends, the rest is one status."""
    monkeypatch.setattr(tally, "MOST", 2)
    for _ in range(4):
        await ended(jobs, await started(jobs, "raises"))
    counts = tabs(await shown(jobs, "/console/jobs"))
    assert (counts["all"], counts["failed"], counts["succeeded"]) == ("4", "4", "0")
    for _ in range(3):
        await ended(jobs, await started(jobs, "long"))
    counts = tabs(await shown(jobs, "/console/jobs"))
    assert (counts["all"], counts["failed"], counts["succeeded"]) == ("7", "2+", "2+")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("created_after=yesterday", "Must be a time with zone"),
        ("status=lost", "Input should be"),
        ("limit=101", "less than or equal to 100"),
        ("cursor=nonsense", "from the link of the previous page"),
    ],
)
async def test_a_wrong_filter_is_named_in_the_list(jobs: QuartClient, query: str, said: str) -> None:
    page = await shown(jobs, f"/console/jobs?{query}", 422)
    assert said in page
    assert rows(page) == []
    assert "data-live" not in page  # the service would answer 422 again, and the page say that it does not follow


async def test_a_job_is_found_by_the_beginning_of_its_id(job_app: Quart, jobs: QuartClient) -> None:
    job, other = [await started(jobs, "echo", args={"text": "\u202egnitirw"}, delay=60) for _ in range(2)]
    whole = {"": [f"/console/jobs/{job['id']}"]}
    digits = job["id"].replace("-", "")

    async def opened(typed: str) -> dict[str, list[str]]:
        response = await jobs.get(f"/console/jobs?task=&id={typed}", headers=PAGE)
        assert response.status_code == 303, typed
        return {"": [response.headers["Location"]]}

    for typed in (job["id"], job["id"].upper(), digits, digits[:-1], f"%20{job['id'][:-9]}%20"):
        assert await opened(typed) == whole, typed
    assert await opened(UNKNOWN) == {"": [f"/console/jobs/{UNKNOWN}"]}  # whose page says more
    for typed, said in (
        ("0", "of several jobs begin like this"),
        ("ffff-", "No job has an id that begins like this"),
        ("../users", "has only the characters 0-9, a-f and -"),
    ):
        page = await shown(jobs, f"/console/jobs?id={typed}", 422)
        assert said in page
        assert f'value="{typed}"' in page
    assert rows(page) == [other["id"], job["id"]]
    assert "\\u202egnitirw" in page  # it reversed the rest of the line
    assert "\u202e" not in page
    boss = {"Authorization": f"Bearer {secret((await parts_of(job_app).keys.create('b', [Scope.READ]))[1])}"}
    assert "No job has an id" in await shown(jobs, "/console/jobs?id=0", 422, boss)


async def test_jobs_are_cancelled_and_retried_from_the_list(jobs: QuartClient, watch: Watch) -> None:
    held = await running(jobs, watch, "console changes")
    failed = await ended(jobs, await started(jobs, "raises"))
    waiting = [(await started(jobs, "echo", args={"text": "x"}, delay=60))["id"] for _ in range(3)]
    listed = {"list": "status=queued&limit=50&notice=retry&other=1"}
    went = await post(jobs, f"/console/jobs/{waiting[0]}/cancel", listed)
    assert went == {"": ["/console/jobs"], "status": ["queued"], "limit": ["50"], "notice": ["cancelled"]}
    assert "The job is cancelled" in await shown(jobs, "/console/jobs?notice=cancelled")
    went = await post(jobs, "/console/jobs/cancel", listed | {"job": [*waiting, held["id"], UNKNOWN]})
    assert (went["done"], went["skipped"]) == (["3"], ["2"])
    assert "3 jobs cancelled, or asked to stop. 2 jobs skipped" in await shown(
        jobs, "/console/jobs?notice=cancel&done=3&skipped=2"
    )
    went = await post(jobs, "/console/jobs/retry", {"list": "", "job": [failed["id"], UNKNOWN]})
    assert (went["done"], went["skipped"]) == (["1"], ["1"])
    [again] = [job for job in await all_jobs(jobs) if job["links"].get("retry_of") == failed["links"]["self"]]
    assert (await ended(jobs, again))["task"] == "raises"
    assert (await post(jobs, "/console/jobs/cancel", {"list": ""}))["skipped"] == ["0"]
    assert "No job is selected" in await shown(jobs, "/console/jobs?notice=cancel&done=0&skipped=0")
    assert (await ended(jobs, held))["status"] == "cancelled"


async def test_a_refused_change_is_a_page_that_says_what_to_do(jobs: QuartClient) -> None:
    done = await ended(jobs, await started(jobs, "long"))
    for path, status, said in (
        (f"/console/jobs/{done['id']}/cancel", 409, "has succeeded already"),
        (f"/console/jobs/{done['id']}/retry", 409, "Only a failed or cancelled job"),
        (f"/console/jobs/{UNKNOWN}/cancel", 404, "Copy the whole id"),
    ):
        response = await jobs.post(path, form={"list": ""}, headers=PAGE)
        assert response.status_code == status
        page = await response.get_data(as_text=True)
        assert said in page
        assert "Back to the jobs" in page
    response = await jobs.post(f"/console/jobs/{UNKNOWN}/cancel", form={}, headers={"Accept": "application/json"})
    assert response.mimetype == "application/problem+json"


@pytest.fixture
async def keys(job_app: Quart) -> dict[str, str]:
    """Keys of three scopes, by their names."""
    made = {"reader": [Scope.READ], "writer": [Scope.READ, Scope.WRITE], "boss": [Scope.ADMIN]}
    return {name: secret((await parts_of(job_app).keys.create(name, scopes))[1]) for name, scopes in made.items()}


async def test_a_key_sees_its_jobs_and_is_offered_what_it_may_do(
    jobs: QuartClient, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "quart_async_api")

    def by(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {keys[name]}"}

    async def submitted(name: str) -> Document:
        members = {"task": "echo", "args": {"text": "x"}, "delay": 60}
        document: Document = await (await jobs.post("/jobs", json=members, headers=by(name))).get_json()
        return document

    mine, theirs = await submitted("writer"), await submitted("boss")
    page = await shown(jobs, "/console/jobs", headers=by("writer"))
    assert rows(page) == [mine["id"]]
    assert (tabs(page)["all"], tabs(page)["queued"]) == ("1", "1")
    assert "Cancel selected" in page
    assert "boss" not in page
    page = await shown(jobs, "/console/jobs", headers=by("boss"))
    assert rows(page) == [theirs["id"], mine["id"]]
    assert "<bdi>writer</bdi>" in page
    page = await shown(jobs, "/console/jobs", headers=by("reader"))
    assert rows(page) == []
    assert "formaction" not in page
    assert (await jobs.get(f"/console/jobs/{theirs['id']}", headers=PAGE | by("writer"))).status_code == 404
    assert "<bdi>writer</bdi>" in await shown(jobs, f"/console/jobs/{mine['id']}", headers=by("boss"))
    members = {"task": "raises"}
    failed = await (await jobs.post("/jobs", json=members, headers=by("boss"))).get_json()
    await jobs.get(failed["links"]["self"], headers=by("boss") | {"Prefer": "wait=30"})
    assert "the secret reason" in await shown(jobs, f"/console/jobs/{failed['id']}", headers=by("boss"))
    failed = await (await jobs.post("/jobs", json=members, headers=by("writer"))).get_json()
    await jobs.get(failed["links"]["self"], headers=by("writer") | {"Prefer": "wait=30"})
    page = await shown(jobs, f"/console/jobs/{failed['id']}", headers=by("writer"))
    assert "the secret reason" not in page
    assert "Retry</button>" in page
    for action in ("cancel", "retry", "again", "callbacks/msg_1/replay"):
        refused = await sent(jobs, f"/console/jobs/{theirs['id']}/{action}", {"arg.text": "y"}, by("writer"))
        assert refused.status_code == 404, action
    assert (await jobs.get(f"/console/jobs/{failed['id']}/again", headers=PAGE | by("boss"))).status_code == 200
    form = {"job": [mine["id"], theirs["id"]], "list": ""}
    refused = await sent(jobs, "/console/jobs/cancel", form, by("reader"))
    assert (refused.status_code, refused.mimetype) == (403, "text/html")
    changed = await sent(jobs, "/console/jobs/cancel", form, by("writer"))
    assert "done=1&skipped=1" in changed.headers["Location"]
    audited = [r.getMessage() for r in caplog.records if r.name.endswith("audit") and "job.cancel" in r.getMessage()]
    assert [line.split(" by ")[0] for line in audited] == [f"job.cancel {mine['id']}"]


async def test_pages_of_other_sites_change_nothing(jobs: QuartClient) -> None:
    job = await started(jobs, "echo", args={"text": "x"}, delay=60)
    headers = PAGE | {"Sec-Fetch-Site": "cross-site"}
    response = await jobs.post("/console/jobs/cancel", form={"job": job["id"], "list": ""}, headers=headers)
    assert response.status_code == 403
    assert (await (await jobs.get(job["links"]["self"])).get_json())["status"] == "queued"


# The page of one job


async def test_the_page_of_a_job_tells_what_became_of_it(job_app: Quart, jobs: QuartClient) -> None:
    again = await ended(jobs, await started(jobs, "second-time"))
    page = await shown(jobs, f"/console/jobs/{again['id']}")
    bars = re.findall(r'<li class="bar-([a-z]+)"><span class="label">([^<]+?) ?<', page)
    attempts = [(kind, label) for kind, label in bars if label.startswith("Attempt")]
    assert attempts == [("failed", "Attempt 1"), ("succeeded", "Attempt 2")]
    assert re.findall(r'<li id="event-(\d+)" class="event-([a-z]+)">', page) == [("1", "retry"), ("2", "succeeded")]
    assert '<span class="json-number">2</span>' in page  # its result
    assert "Traceback" in page
    assert 'data-live=""' in page
    assert "Run again" in page
    assert f'href="/jobs/{again["id"]}"' in page

    failed = await ended(jobs, await started(jobs, "raises"))
    page = await shown(jobs, f"/console/jobs/{failed['id']}")
    assert "the task raised RuntimeError" in page
    assert 'href="/problems/task-failed"' in page
    went = await post(jobs, f"/console/jobs/{failed['id']}/retry", {})
    [new] = went[""]
    assert went["notice"] == ["retried"]
    page = await shown(jobs, f"{new}?notice=retried")
    assert "This is the new job" in page
    assert f'href="/console/jobs/{failed["id"]}"' in page
    assert f'href="{new}"' in await shown(jobs, f"/console/jobs/{failed['id']}")

    for job_id, status, said in ((UNKNOWN, 404, "Copy the whole id"), ("x" * 36, 404, "Copy the whole id")):
        assert said in await shown(jobs, f"/console/jobs/{job_id}", status)
    await parts_of(job_app).store.retention.expire("9000-01-01T00:00:00.000000Z", 1e9)
    page = await shown(jobs, f"/console/jobs/{failed['id']}", 410)
    assert "This raises job ended at" in page
    assert "deleted too" in page


async def test_long_parts_of_a_job_are_bounded_and_led_to(jobs: QuartClient) -> None:
    texts = [f"line {number}" for number in range(60)] + ["x" * 9000]
    job = await ended(jobs, await started(jobs, "repeat", args={"value": texts}))
    page = await shown(jobs, f"/console/jobs/{job['id']}")
    assert f'{job["id"]}/result">All of it' in page
    assert "(9,000 characters)" in page
    assert len(page) < 60_000
    lines = re.findall(r'<li id="event-(\d+)"', page)
    whole = await shown(jobs, f"/console/jobs/{job['id']}?events=all")
    assert "x" * 9000 in whole
    if len(all_lines := re.findall(r'<li id="event-(\d+)"', whole)) > 100:
        assert 50 < len(lines) <= 100
        assert lines == all_lines[-len(lines) :]
        assert f"The last {len(lines)} of {len(all_lines)} events" in page
    else:  # of progress that came quickly, only the last is stored
        assert lines == all_lines


HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202egnitirw \u2067rtl",
    "x" * 10_000,
    "\U0001f600\u200d\U0001f680",
    "\\u0000 \x01 \ud800",
    "</code></template></textarea>{{ 7 * 7 }}",
)


async def test_hostile_texts_stay_texts(jobs: QuartClient) -> None:
    """In arguments, progress, log lines and results, as they are stored."""
    data = json.dumps({"task": "repeat", "args": {"value": HOSTILE[:-2] + HOSTILE[-1:]}})
    job = await (await jobs.post("/jobs", data=data, headers={"Content-Type": "application/json"})).get_json()
    await ended(jobs, job)
    for path in (
        f"/console/jobs/{job['id']}",
        f"/console/jobs/{job['id']}?events=all",
        f"/console/jobs/{job['id']}/again",
    ):
        page = await shown(jobs, path)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "</code></template>" not in page
        assert "{{ 7 * 7 }}" in page
    assert "<script>alert" not in await shown(jobs, "/console/jobs")


async def test_a_job_is_run_again_with_arguments_of_a_form(jobs: QuartClient) -> None:
    done = await ended(jobs, await started(jobs, "shaped", args={"text": "a\nb", "number": 3}))
    path = f"/console/jobs/{done['id']}/again"
    page = await shown(jobs, path)
    assert re.findall(r'<(?:input|select|textarea) id="arg\.(\w+)"', page) == [
        "text", "number", "shade", "flag", "many", "maybe"
    ]  # fmt: skip
    assert ">\na\nb</textarea>" in page
    assert '<option value="&#34;red&#34;" selected>red</option>' in page
    assert "a whole number; at least 1; at most 9; default 1" in page
    form = {
        "arg.text": "c",
        "arg.number": "12",
        "arg.shade": '"blue"',
        "arg.flag": "true",
        "arg.many": "[1, ",
        "arg.maybe": "",
    }
    response = await sent(jobs, path, form)
    assert response.status_code == 422
    page = await response.get_data(as_text=True)
    assert re.findall(r'<p class="wrong" id="arg\.(\w+)-note">([^<]{11})', page) == [("many", "This is not")]
    response = await sent(jobs, path, form | {"arg.many": '[1, "x"]', "arg.number": "twelve"})
    wrong = re.findall(r'<p class="wrong" id="arg\.(\w+)-note">([^<]+)', await response.get_data(as_text=True))
    assert wrong[0][0] == "number"
    assert "valid integer" in wrong[0][1]
    assert wrong[1] == ("many", wrong[1][1])
    assert wrong[1][1].startswith("1: ")
    went = await post(jobs, path, form | {"arg.many": "[1]", "arg.number": "9"})
    again = await ended(jobs, await (await jobs.get(went[""][0].removeprefix("/console"))).get_json())
    assert again["args"] == {
        "text": "c", "number": 9, "shade": "blue", "flag": True, "many": [1], "maybe": None
    }  # fmt: skip
    assert again["links"]["retry_of"] == done["links"]["self"]
    waiting = await started(jobs, "echo", args={"text": "x"}, delay=60)
    assert "Only a job that has ended" in await shown(jobs, f"/console/jobs/{waiting['id']}/again", 409)


async def test_a_queued_job_says_why_it_waits(job_app: Quart, jobs: QuartClient) -> None:
    delayed = await started(jobs, "echo", args={"text": "x"}, delay=60)
    assert "It waits for its time" in await shown(jobs, f"/console/jobs/{delayed['id']}")
    assert (await jobs.post("/tasks/echo/pause")).status_code == 200
    waiting = await started(jobs, "echo", args={"text": "x"})
    assert "The task is paused" in await shown(jobs, f"/console/jobs/{waiting['id']}")
    assert (await jobs.post("/tasks/echo/resume")).status_code == 200
    assert "It waits" not in await shown(jobs, f"/console/jobs/{(await ended(jobs, waiting))['id']}")


async def test_all_that_match_are_changed_after_a_look_at_their_number(jobs: QuartClient, watch: Watch) -> None:
    waiting = [await started(jobs, "echo", args={"text": "x"}, delay=3600) for _ in range(3)]
    held = await running(jobs, watch, "console bulk")
    links = re.findall(
        r'href="(/console/jobs/bulk[^"]+)"', await shown(jobs, "/console/jobs?task=echo&status=queued&limit=50")
    )
    assert links == ["/console/jobs/bulk?action=cancel&amp;status=queued&amp;task=echo"]
    page = await shown(jobs, links[0].replace("&amp;", "&"))
    assert "Cancel 3 jobs?" in page
    form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))
    assert form.pop("once")
    assert form == {"action": "cancel", "status": "queued", "task": "echo"}
    went = await post(jobs, "/console/jobs/bulk", form)
    [path] = went[""]
    assert "This job does it, and shows how far it is" in await shown(jobs, f"{path}?notice=bulk")
    bulk = await ended(jobs, await (await jobs.get(path.removeprefix("/console"))).get_json())
    assert bulk["result"] == {"matched": 3, "done": 3, "skipped": 0}
    assert rows(await shown(jobs, "/console/jobs?status=cancelled")) == [job["id"] for job in reversed(waiting)]
    assert "No job to cancel" in await shown(jobs, links[0].replace("&amp;", "&"))
    assert "Retry 3 jobs?" in await shown(jobs, "/console/jobs/bulk?action=retry&created_after=2026-01-01T00%3A00")
    assert "Cancel 1 job?" in await shown(jobs, "/console/jobs/bulk?action=cancel")
    await shown(jobs, "/console/jobs/bulk?action=retry&status=succeeded", 422)
    await shown(jobs, "/console/jobs/bulk?action=retries", 422)  # it was taken for cancel
    assert (await sent(jobs, "/console/jobs/bulk", {})).status_code == 422
    assert (await sent(jobs, "/console/jobs/bulk", {"action": "cancel", "created_after": "soon"})).status_code == 422
    gate("console bulk").set()
    await ended(jobs, held)


def with_once(page: str, form: dict[str, Any]) -> dict[str, Any]:
    """The form as a page sends it, with the first hidden key of the page."""
    [once, *_] = re.findall(r'name="once" value="([^"]+)"', page)
    return form | {"once": once}


async def total(client: QuartClient) -> int:
    """The number of all jobs."""
    return int(tabs(await shown(client, "/console/jobs"))["all"])


async def test_a_form_that_is_sent_twice_starts_one_job(jobs: QuartClient, caplog: pytest.LogCaptureFixture) -> None:
    """A double click without scripts, or a reload of the answer, made two."""
    caplog.set_level("INFO", "quart_async_api")
    failed = await ended(jobs, await started(jobs, "raises"))
    path = f"/console/jobs/{failed['id']}"
    for form_page, action, fields in (
        ("/console/tasks/echo", "/console/tasks/echo", {"arg.text": "hello"}),
        ("/console/tasks", "/console/tasks/rarely/run", {}),
        (path, f"{path}/retry", {}),
        ("/console/jobs", f"{path}/retry", {"list": "status=failed"}),
        ("/console/jobs", "/console/jobs/retry", {"list": "", "job": [failed["id"]]}),
        (f"{path}/again", f"{path}/again", {}),
        ("/console/jobs/bulk?action=retry", "/console/jobs/bulk", {"action": "retry", "task": "nobody"}),
    ):
        before = await total(jobs)
        form = with_once(await shown(jobs, form_page), fields)
        first, *others = await asyncio.gather(*(sent(jobs, action, form) for _ in range(3)))
        leads = {urlsplit(each.headers["Location"]).path for each in (first, *others)}
        assert len(leads) == 1, action
        assert await total(jobs) == before + 1, action
        assert (await sent(jobs, action, fields)).status_code == 303  # another form
        assert await total(jobs) == before + 2, action
    form = with_once(await shown(jobs, "/console/tasks/echo"), {"arg.text": "a"})
    waiting = await started(jobs, "echo", args={"text": "x"}, delay=60)
    for _ in range(2):
        went = await post(jobs, f"/console/jobs/{waiting['id']}/cancel", {})
        assert went["notice"] == ["cancelled"]
    again = await sent(jobs, "/console/tasks/echo", form)
    repeated = await sent(jobs, "/console/tasks/echo", form)
    assert "sent before" in await shown(jobs, repeated.headers["Location"])
    assert urlsplit(repeated.headers["Location"]).path == again.headers["Location"]
    changed = await sent(jobs, "/console/tasks/echo", form | {"arg.text": "b"})  # the reader went back and typed
    assert urlsplit(changed.headers["Location"]).path != again.headers["Location"]
    audited = [each.getMessage() for each in caplog.records if each.name.endswith("audit")]
    assert len(audited) == await total(jobs) + 1  # each job once, and one cancellation


async def test_a_notice_has_known_words_and_numbers_that_a_page_can_have(jobs: QuartClient) -> None:
    said = {
        "retry&done=2&skipped=1": "2 jobs submitted again. 1 job skipped",
        "retry&done=0": "No job is selected",
        "retry&done=-5": None,
        "retry&done=-5&skipped=6": None,
        "cancel&done=99999999": None,
        "cancel&done=1e3&skipped=x": "No job is selected",
        "%3Cscript%3E": None,
    }
    for query, words in said.items():
        page = await shown(jobs, f"/console/jobs?notice={query}")
        found = re.findall(r'<p class="notice" role="status"[^>]*>([^<]+)', page)
        assert found[0].startswith(words) if words else found == [], query
