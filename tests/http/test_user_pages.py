"""The console's pages of users and keys, without a browser."""

import asyncio
import html
import logging
import re

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as QuartClient

from quart_async_api.access.caller import Scope
from tests.http.test_access import bearer, store_of
from tests.secrets import secret

HTML = {"Accept": "text/html"}
HOSTILE = '<script>alert("1")</script>\u202e' + "x" * 20


async def page(client: QuartClient, path: str, key: dict[str, str] | None = None, status: int = 200) -> str:
    response = await client.get(path, headers=HTML | (key or {}))
    assert response.status_code == status
    assert response.mimetype == "text/html"
    return await response.get_data(as_text=True)


async def post(
    client: QuartClient, path: str, form: dict[str, str], key: dict[str, str] | None = None
) -> tuple[int, str]:
    response = await client.post(path, form=form, headers=HTML | (key or {}))
    return response.status_code, response.headers.get("Location") or await response.get_data(as_text=True)


async def test_a_user_is_added_changed_and_deleted_by_forms(
    client: QuartClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert "There are no users yet" in await page(client, "/console/users")
    with caplog.at_level(logging.INFO, "quart_async_api.audit"):
        assert await post(client, "/console/users", {"name": HOSTILE, "email": "a@example.com"}) == (
            303,
            "/console/users?notice=added",
        )
    assert [line.__dict__.get("target") for line in caplog.records] == ["1"]
    shown = await page(client, "/console/users?notice=added")
    assert "The user was added." in shown
    assert html.escape(HOSTILE).replace("&quot;", "&#34;") in shown
    assert "<script>alert" not in shown
    version = re.search(r'name="version" value="(\w+)"', await page(client, "/console/users/1"))
    assert version
    changed = {"name": "Ada", "email": "a@example.com", "version": version[1]}
    assert await post(client, "/console/users/1", changed) == (303, "/console/users?notice=saved")
    status, conflict = await post(client, "/console/users/1", {**changed, "name": "Grace"})
    assert status == 412
    assert "Someone else changed this user" in conflict
    assert 'value="Grace"' in conflict  # what was typed is kept
    newer = re.search(r'name="version" value="(\w+)"', conflict)
    assert newer
    assert (await post(client, "/console/users/1", {**changed, "name": "Grace", "version": newer[1]}))[0] == 303
    assert await post(client, "/console/users/1/delete", {}) == (303, "/console/users?notice=deleted")
    assert "User not found" in await page(client, "/console/users/1", status=404)


async def test_wrong_input_is_shown_at_its_field_and_kept(client: QuartClient) -> None:
    await client.post("/add-user", json={"name": "Ada", "email": "ada@example.com"})
    for form, status, text in (
        ({"name": " ", "email": "b@example.com"}, 422, "Must not be blank"),
        ({"name": "B", "email": "nonsense"}, 422, "An email address must have an @-sign"),
        ({"name": "B", "email": "ADA@example.com"}, 409, "A user with this email already exists"),
        ({}, 422, "String should have at least 1 character"),
    ):
        answered, shown = await post(client, "/console/users", form)
        assert answered == status
        assert text in html.unescape(shown)
        assert 'aria-invalid="true"' in shown
        assert f'value="{form.get("email", "")}"' in shown


async def test_users_come_in_pages(client: QuartClient) -> None:
    for number in range(5):
        await client.post("/add-user", json={"name": f"User {number}", "email": f"{number}@example.com"})
    seen, path = [], "/console/users?limit=2"
    while path:
        shown = await page(client, path)
        seen += re.findall(r"<bdi>(User \d)</bdi>", shown)
        following = re.search(r'href="([^"]+)" rel="next"', shown)
        path = html.unescape(following[1]) if following else ""
    assert seen == [f"User {number}" for number in range(5)]


async def test_keys_are_made_once_shown_once_and_revoked(
    app: Quart, client: QuartClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quart_async_api.audit")
    assert "--scope admin" in await page(client, "/console/keys")
    assert (await post(client, "/console/keys", {"scope": "read"}))[0] == 422  # the first key is the operator's
    admin = bearer(secret((await store_of(app).create("operator", [Scope.ADMIN]))[1]))
    made = await client.post(
        "/console/keys", form={"name": "reports", "expires": "1h", "scope": "read"}, headers=HTML | admin
    )
    shown = await made.get_data(as_text=True)
    text = re.search(r"qaa_\w+", shown)
    assert text
    assert made.headers["Cache-Control"] == "no-store"
    assert re.findall(r"<(\S+) [^>]* autofocus", shown) == ["div"]  # the key
    key = bearer(text[0])
    assert (await client.get("/users", headers=key)).status_code == 200
    assert text[0] not in await page(client, "/console/keys", admin)
    for form, message in (
        ({"name": "reports", "expires": "", "scope": "read"}, "Another key is named"),
        ({"name": "x", "expires": "soon", "scope": "read"}, "must be a duration"),
        ({"name": "x", "expires": "0", "scope": "read"}, "more than 0"),
        ({"name": "x", "expires": ""}, "at least one scope"),
    ):
        status, shown = await post(client, "/console/keys", form, admin)
        assert status == 422
        assert message in html.unescape(shown)
        assert shown.count(" autofocus") == 1, message  # at the first wrong field, or at what is wrong with the whole
    key_id = text[0].split("_")[1]
    # What the key may not do is neither offered nor done.
    shown = await page(client, "/console/users", key)
    assert "/console/keys" not in shown
    assert "Add a user" not in shown
    assert "scope" in await page(client, "/console/keys", key, 403)
    assert (await post(client, "/console/users", {"name": "A", "email": "a@example.com"}, key))[0] == 403
    assert (await post(client, f"/console/keys/{key_id}/revoke", {}, key))[0] == 403
    assert (await post(client, f"/console/keys/{key_id}/revoke", {"cancel": "1"}, admin))[0] == 303
    assert (await client.get("/users", headers=key)).status_code == 401
    # A look at a page for admins changes nothing.
    actions = [line.__dict__.get("action") for line in caplog.records]
    assert [action for action in actions if action != "access.refuse"] == ["key.create", "key.revoke"]


async def test_a_form_of_another_site_changes_nothing(client: QuartClient) -> None:
    form = {"name": "Ada", "email": "ada@example.com"}
    assert (await post(client, "/console/users", form, {"Origin": "https://evil.example"}))[0] == 403
    assert await (await client.get("/users")).get_json() == []


async def test_an_error_is_a_page_for_people_and_a_problem_for_programs(client: QuartClient) -> None:
    shown = await page(client, "/console/users/nobody", status=404)
    assert "is not a user id" in shown
    problem = await client.get("/console/users/nobody", headers={"Accept": "application/json"})
    assert problem.mimetype == "application/problem+json"


async def test_a_form_that_is_sent_twice_makes_one_user_or_key(client: QuartClient, app: Quart) -> None:
    """The second click said that the email was taken, or made a key that nobody saw."""
    _, boss = await store_of(app).create("boss", [Scope.ADMIN])
    admin = bearer(secret(boss))

    async def form(path: str, fields: dict[str, str]) -> dict[str, str]:
        return fields | {"once": re.findall(r'name="once" value="([^"]+)"', await page(client, path, admin))[0]}

    added = await form("/console/users", {"name": "Ada", "email": "ada@example.com"})
    answers = await asyncio.gather(*(post(client, "/console/users", added, admin) for _ in range(3)))
    assert set(answers) == {(303, "/console/users?notice=added")}
    assert (await post(client, "/console/users", added, admin))[0] == 303
    created = await form("/console/keys", {"name": "", "scope": "read"})
    answers = await asyncio.gather(*(post(client, "/console/keys", created, admin) for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 422, 422]
    assert "was sent before" in (await post(client, "/console/keys", created, admin))[1]
    assert len(await store_of(app).all()) == 2
