"""Plain Quart: no hook, orjson for its bodies."""

import asyncio

import orjson
import users
from quart import Quart, Response, request

app = Quart(__name__)
app.before_serving(users.connect)
app.after_serving(users.disconnect)


def json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


@app.get("/constant")
async def constant() -> Response:
    return json(b'{"status":"pass"}')


@app.get("/user/<int:user_id>")
async def user(user_id: int) -> Response:
    found = await users.one(user_id)
    return json(found) if found is not None else Response(status=404)


@app.get("/users")
async def page() -> Response:
    return json(await users.hundred())


@app.post("/add-user")
async def add_user() -> Response:
    sent = orjson.loads(await request.get_data())
    return json(await users.add(str(sent["name"]), str(sent["email"])), 201)


@app.get("/test")
async def test() -> Response:
    await asyncio.sleep(5)
    return json(b'{"result":1}')
