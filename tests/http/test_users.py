"""Users, as a resource."""

import asyncio
from typing import Any

import pytest
from quart.testing import QuartClient

from tests.each import each

ADA = {"name": "Ada Lovelace", "email": "Ada@Example.com"}


async def _add(client: QuartClient, name: str, email: str) -> dict[str, Any]:
    response = await client.post("/add-user", json={"name": name, "email": email})
    assert response.status_code == 201
    user: dict[str, Any] = (await response.get_json())["user"]
    return user


async def test_a_user_is_added_as_sent_and_read_back(client: QuartClient) -> None:
    response = await client.post("/add-user", json=ADA)
    answer = await response.get_json()
    assert response.status_code == 201
    assert answer == {"message": "User created", "user": {"id": answer["user"]["id"], **ADA}}
    assert response.headers["Location"] == f"/user/{answer['user']['id']}"
    assert await (await client.get(response.headers["Location"])).get_json() == answer["user"]


async def test_username_is_another_name_for_name(client: QuartClient) -> None:
    response = await client.post("/add-user", json={"username": "ada", "email": "a@example.com", "age": 36})
    assert (await response.get_json())["user"]["name"] == "ada"


async def test_the_email_is_unique_whatever_its_case(client: QuartClient) -> None:
    await client.post("/add-user", json=ADA)
    response = await client.post("/add-user", json={"name": "Other", "email": "ada@eXample.com"})
    assert response.status_code == 409
    assert len(await (await client.get("/users")).get_json()) == 1


async def test_of_fifty_that_add_the_same_email_at_once_one_wins(client: QuartClient) -> None:
    answers = await asyncio.gather(*(client.post("/add-user", json=ADA) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49


@each(
    ("body", "pointers"),
    [
        ({}, ["#/name", "#/email"]),
        ([], ["#"]),
        ("text", ["#"]),
        (None, ["#"]),
        ({"name": "", "email": "a@example.com"}, ["#/name"]),
        ({"name": " \t ", "email": "a@example.com"}, ["#/name"]),
        ({"name": "x" * 51, "email": "a@example.com"}, ["#/name"]),
        ({"name": "nul\0", "email": "a@example.com"}, ["#/name"]),
        ({"name": 5, "email": "a@example.com"}, ["#/name"]),
        ({"name": None, "email": "a@example.com"}, ["#/name"]),
        ({"name": ["a"], "email": {}}, ["#/name", "#/email"]),
        ({"username": "", "email": "a@example.com"}, ["#/username"]),
        ({"username": "a", "name": "a", "email": "a@example.com"}, ["#/username"]),
        ({"name": "a", "email": "no address"}, ["#/email"]),
        ({"name": "a", "email": "a@"}, ["#/email"]),
        ({"name": "a", "email": "a@b"}, ["#/email"]),
        ({"name": "a", "email": "a@example.com\0"}, ["#/email"]),
        ({"name": "a", "email": f"{'a' * 60}@{'b' * 40}.com"}, ["#/email"]),
        ({"name": "", "email": ""}, ["#/name", "#/email"]),
    ],
)
async def test_each_bad_field_is_named_and_nothing_is_written(
    client: QuartClient, body: Any, pointers: list[str]
) -> None:
    response = await client.post("/add-user", json=body)
    problem = await response.get_json()
    assert response.status_code == 422
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert await (await client.get("/users")).get_json() == []


@pytest.mark.parametrize("name", ["x" * 50, "Ünïcödé 😀", " padded ", "<b>&\"'", "'; DROP TABLE users; --"])
async def test_names_are_kept_as_they_are(client: QuartClient, name: str) -> None:
    assert (await _add(client, name, "a@example.com"))["name"] == name


@each("user_id", ["0", "99", "-1", "abc", "1.5", "١", "9" * 19, "9" * 400, "%00", "%FF", "1%20"])
async def test_what_is_no_users_id_is_not_found(client: QuartClient, user_id: str) -> None:
    response = await client.get(f"/user/{user_id}")
    assert response.status_code == 404
    assert (await response.get_json())["error"] == "User not found"


@pytest.mark.parametrize("path", ["/user", "/user/", "/user/1/2"])
async def test_no_id_at_all_is_not_found(client: QuartClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_list_is_an_array_by_id_in_pages(client: QuartClient) -> None:
    added = [await _add(client, f"user {n}", f"u{n}@example.com") for n in range(7)]
    url, seen = "/users?limit=3", []
    pages = 0
    while True:
        response = await client.get(url)
        seen += await response.get_json()
        pages += 1
        links = dict(link.split("; ")[::-1] for link in response.headers["Link"].split(", "))
        assert links.pop('rel="first"') == "<http://localhost/users?limit=3>"
        if not links:
            break
        url = links.pop('rel="next"').strip("<>").removeprefix("http://localhost")
        assert not links
    assert (pages, seen) == (3, added)


@each(
    ("query", "pointer"),
    [
        ("limit=0", "#/limit"),
        ("limit=1001", "#/limit"),
        ("limit=x", "#/limit"),
        ("limit=", "#/limit"),
        ("cursor=x", "#/cursor"),
        ("cursor=", "#/cursor"),
        ("cursor=%00", "#/cursor"),
        ("cursor=%C3%BC", "#/cursor"),
        ("cursor=LTE", "#/cursor"),
        ("cursor=MQ%3D%3D", "#/cursor"),
        (f"cursor={'MTEx' * 50}", "#/cursor"),
    ],
)
async def test_a_bad_page_is_refused(client: QuartClient, query: str, pointer: str) -> None:
    response = await client.get(f"/users?{query}")
    assert response.status_code == 422
    assert [error["pointer"] for error in (await response.get_json())["errors"]] == [pointer]


async def test_a_change_touches_what_is_sent(client: QuartClient) -> None:
    user = await _add(client, "Ada", "a@example.com")
    path = f"/user/{user['id']}"
    assert (await (await client.patch(path, json={"username": "Grace"})).get_json())["name"] == "Grace"
    assert (await (await client.patch(path, json={"email": "A@example.com"})).get_json())["email"] == "A@example.com"
    response = await client.patch(path, json={}, headers={"Content-Type": "application/merge-patch+json"})
    assert await response.get_json() == {"id": user["id"], "name": "Grace", "email": "A@example.com"}


@pytest.mark.parametrize("body", [{"name": ""}, {"name": None}, {"email": "x"}, {"email": None}, []])
async def test_a_bad_change_changes_nothing(client: QuartClient, body: Any) -> None:
    user = await _add(client, "Ada", "a@example.com")
    assert (await client.patch(f"/user/{user['id']}", json=body)).status_code == 422
    assert await (await client.get(f"/user/{user['id']}")).get_json() == user


async def test_a_change_to_a_taken_email_is_a_conflict(client: QuartClient) -> None:
    await _add(client, "Ada", "a@example.com")
    user = await _add(client, "Grace", "g@example.com")
    assert (await client.patch(f"/user/{user['id']}", json={"email": "A@example.com"})).status_code == 409


async def test_a_deleted_user_is_gone_and_its_id_never_given_again(client: QuartClient) -> None:
    user = await _add(client, "Ada", "a@example.com")
    response = await client.delete(f"/user/{user['id']}")
    assert response.status_code == 204
    assert await response.get_data() == b""
    assert (await client.delete(f"/user/{user['id']}")).status_code == 404
    assert (await _add(client, "Ada", "a@example.com"))["id"] > user["id"]


async def test_what_has_not_changed_is_not_sent_again(client: QuartClient) -> None:
    user = await _add(client, "Ada", "a@example.com")
    path = f"/user/{user['id']}"
    etag = (await client.get(path)).headers["ETag"]
    assert etag.startswith('"')
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        response = await client.get(path, headers={"If-None-Match": known})
        assert (response.status_code, response.headers["ETag"], await response.get_data()) == (304, etag, b"")
    await client.patch(path, json={"name": "Grace"})
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_a_stale_copy_changes_nothing(client: QuartClient) -> None:
    user = await _add(client, "Ada", "a@example.com")
    path = f"/user/{user['id']}"
    etag = (await client.get(path)).headers["ETag"]
    changed = await client.patch(path, json={"name": "Grace"}, headers={"If-Match": etag})
    assert changed.status_code == 200
    for stale in (etag, f"W/{changed.headers['ETag']}", '"x"'):
        assert (await client.patch(path, json={"name": "Late"}, headers={"If-Match": stale})).status_code == 412
        assert (await client.delete(path, headers={"If-Match": stale})).status_code == 412
    assert (await client.delete(path, headers={"If-Match": changed.headers["ETag"]})).status_code == 204
    assert (await client.delete(path, headers={"If-Match": "*"})).status_code == 404


async def test_of_twenty_writers_with_one_version_one_wins(client: QuartClient) -> None:
    user = await _add(client, "Ada", "a@example.com")
    path = f"/user/{user['id']}"
    etag = (await client.get(path)).headers["ETag"]
    writes = (client.patch(path, json={"name": f"writer {n}"}, headers={"If-Match": etag}) for n in range(20))
    answers = await asyncio.gather(*writes)
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
