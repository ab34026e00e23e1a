"""The console's pages of callbacks and workers, as the server makes them."""

import re
from urllib.parse import urlsplit

from quart import Quart
from quart.testing import QuartClient

from quart_async_api.access.caller import Scope
from quart_async_api.http.parts import parts_of
from tests.http.conftest import started
from tests.http.test_job_pages import post, sent, shown
from tests.secrets import secret

from .receiver import Receiver, answering
from .test_routes import calling_app, client, settled

__all__ = ["calling_app", "client"]


async def test_callbacks_are_listed_filtered_and_sent_again(client: QuartClient, receiver: Receiver) -> None:
    assert "There are no callbacks yet" in await shown(client, "/console/callbacks")
    receiver.script = [answering(500)] * 3
    failed = await started(client, "test", callback_url=receiver.url)
    [undelivered] = await settled(client, failed)
    await settled(client, await started(client, "raises", callback_url=receiver.url))

    def ids(page: str) -> list[str]:
        return re.findall(r'<tr id="callback-([^"]+)"', page)

    assert len(ids(await shown(client, "/console/callbacks"))) == 2
    older = re.search(r'href="([^"]+)" rel="next"', await shown(client, "/console/callbacks?limit=1"))
    assert older
    assert ids(await shown(client, older[1].replace("&amp;", "&"))) == [undelivered["id"]]
    page = await shown(client, "/console/callbacks?status=failed")
    assert ids(page) == [undelivered["id"]]
    assert "500, try 3</summary>" in page
    assert page.count("All tries") == 1
    assert (await shown(client, f"/console/jobs/{failed['id']}")).count("<li value=") == 3
    origin = f"http://127.0.0.1:{urlsplit(receiver.url).port}"
    assert len(ids(await shown(client, f"/console/callbacks?origin={origin}&type=job.failed"))) == 1
    assert "No callback matches" in await shown(client, "/console/callbacks?origin=https://example.org:443")
    for wrong in ("status=lost", "type=job.lost", "limit=0", "cursor=x", "origin=%00"):
        assert "Start again" in await shown(client, f"/console/callbacks?{wrong}", 422) or wrong.startswith("origin")

    went = await post(
        client, f"/console/callbacks/{failed['id']}/{undelivered['id']}/replay", {"list": "status=failed&x=1"}
    )
    assert went == {"": ["/console/callbacks"], "status": ["failed"], "notice": ["replayed"]}
    [again] = await settled(client, failed)
    assert again["status"] == "delivered"


async def test_what_a_key_may_not_see_or_do_is_not_there(
    client: QuartClient, calling_app: Quart, receiver: Receiver
) -> None:
    keys = {
        name: {"Authorization": f"Bearer {secret((await parts_of(calling_app).keys.create(name, scopes))[1])}"}
        for name, scopes in (("alice", ()), ("reader", (Scope.READ,)), ("root", (Scope.ADMIN,)))
    }
    made = await client.post("/jobs", json={"task": "test", "callback_url": receiver.url}, headers=keys["alice"])
    job = await made.get_json()
    await receiver.got(1)
    seen = {name: await shown(client, "/console/callbacks", headers=key) for name, key in keys.items()}
    assert [job["job"]["id"] in page if "job" in job else job["id"] in page for page in seen.values()] == [
        True,
        False,
        True,
    ]
    assert "Send again" in seen["alice"]
    assert ["/console/workers" in page for page in seen.values()] == [False, False, True]
    message = re.search(r'<tr id="callback-([^"]+)"', seen["alice"])
    assert message
    path = f"/console/callbacks/{job.get('job', job)['id']}/{message[1]}/replay"
    assert (await sent(client, path, {}, keys["reader"])).status_code == 403
    assert await shown(client, "/console/workers", 403, keys["alice"])
    workers = await shown(client, "/console/workers", headers=keys["root"])
    assert parts_of(calling_app).presence.id in workers
    assert "this page" in workers
