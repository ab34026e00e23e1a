"""Litestar at its quickest: responses of its own bytes, msgspec for the body, no documentation, no log."""

import asyncio

import msgspec
import users
from litestar import Litestar, MediaType, Response, get, post
from litestar.exceptions import NotFoundException


class NewUser(msgspec.Struct):
    name: str
    email: str


def json(body: bytes, status: int = 200) -> Response[bytes]:
    return Response(body, media_type=MediaType.JSON, status_code=status)


@get("/constant")
async def constant() -> Response[bytes]:
    return json(b'{"status":"pass"}')


@get("/user/{user_id:int}")
async def user(user_id: int) -> Response[bytes]:
    if (found := await users.one(user_id)) is None:
        raise NotFoundException
    return json(found)


@get("/users")
async def page() -> Response[bytes]:
    return json(await users.hundred())


@post("/add-user")
async def add_user(data: NewUser) -> Response[bytes]:
    return json(await users.add(data.name, data.email), 201)


@get("/test")
async def test() -> Response[bytes]:
    await asyncio.sleep(5)
    return json(b'{"result":1}')


app = Litestar(
    [constant, user, page, add_user, test],
    on_startup=[users.connect],
    on_shutdown=[users.disconnect],
    openapi_config=None,
    logging_config=None,
)
