"""FastAPI at its quickest: responses of its own bytes, so that no model is built for them; no documentation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import users
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await users.connect()
    yield
    await users.disconnect()


app = FastAPI(lifespan=lifespan, openapi_url=None)


class NewUser(BaseModel):
    name: str = Field(min_length=1, max_length=50)
    email: str = Field(max_length=100)


def json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


@app.get("/constant")
async def constant() -> Response:
    return json(b'{"status":"pass"}')


@app.get("/user/{user_id}")
async def user(user_id: int) -> Response:
    if (found := await users.one(user_id)) is None:
        raise HTTPException(404)
    return json(found)


@app.get("/users")
async def page() -> Response:
    return json(await users.hundred())


@app.post("/add-user")
async def add_user(new: NewUser) -> Response:
    return json(await users.add(new.name, new.email), 201)


@app.get("/test")
async def test() -> Response:
    await asyncio.sleep(5)
    return json(b'{"result":1}')
