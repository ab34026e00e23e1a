"""BlackSheep at its quickest: responses of its own bytes, orjson for the body."""

import asyncio

import orjson
import users
from blacksheep import Application, Content, Request, Response, get, post
from blacksheep.exceptions import BadRequest

app = Application()
JSON = b"application/json"


def json(body: bytes, status: int = 200) -> Response:
    return Response(status, content=Content(JSON, body))


@app.on_start
async def start(_: Application) -> None:
    await users.connect()


@app.on_stop
async def stop(_: Application) -> None:
    await users.disconnect()


@get("/constant")
async def constant() -> Response:
    return json(b'{"status":"pass"}')


@get("/user/{user_id}")
async def user(user_id: int) -> Response:
    found = await users.one(user_id)
    return json(found) if found is not None else Response(404)


@get("/users")
async def page() -> Response:
    return json(await users.hundred())


@post("/add-user")
async def add_user(request: Request) -> Response:
    sent = orjson.loads(await request.read() or b"")
    if not (isinstance(sent.get("name"), str) and isinstance(sent.get("email"), str)):
        raise BadRequest
    return json(await users.add(sent["name"], sent["email"]), 201)


@get("/test")
async def test() -> Response:
    await asyncio.sleep(5)
    return json(b'{"result":1}')
