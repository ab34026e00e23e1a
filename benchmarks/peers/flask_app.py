"""The tutorials' own design: a Flask view starts an event loop for each request, and opens and closes the database in it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
import users
from flask import Flask, Response, request

app = Flask(__name__)
T = TypeVar("T")


async def with_database(work: Coroutine[Any, Any, T]) -> T:
    await users.connect()
    try:
        return await work
    finally:
        await users.disconnect()


def json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


@app.get("/constant")
def constant() -> Response:
    return json(b'{"status":"pass"}')


@app.get("/user/<int:user_id>")
def user(user_id: int) -> Response:
    found = asyncio.run(with_database(users.one(user_id)))
    return json(found) if found is not None else Response(status=404)


@app.get("/users")
def page() -> Response:
    return json(asyncio.run(with_database(users.hundred())))


@app.post("/add-user")
def add_user() -> Response:
    sent = orjson.loads(request.get_data())
    return json(asyncio.run(with_database(users.add(str(sent["name"]), str(sent["email"])))), 201)


@app.get("/test")
def test() -> Response:
    asyncio.run(asyncio.sleep(5))
    return json(b'{"result":1}')
