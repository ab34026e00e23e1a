"""The users of every peer: one Tortoise model on SQLite, with the pragmas of the service, and what each route answers."""

import os
from typing import Any

import orjson
from tortoise import Model, Tortoise, fields

# As the service: WAL, and each commit on the disk before its answer.
URL = f"sqlite://{os.environ.get('BENCH_DATABASE', ':memory:')}?journal_mode=WAL&synchronous=FULL"
FIELDS = ("id", "name", "email")


class User(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=50)
    email = fields.CharField(max_length=100, unique=True)

    class Meta:
        table = "users"


async def connect() -> None:
    await Tortoise.init(db_url=URL, modules={"models": ["users"]}, _enable_global_fallback=True)


async def disconnect() -> None:
    await Tortoise.close_connections()


async def one(user_id: int) -> bytes | None:
    found: list[dict[str, Any]] = await User.filter(id=user_id).limit(1).values(*FIELDS)
    return orjson.dumps(found[0]) if found else None


async def hundred() -> bytes:
    return orjson.dumps(await User.all().order_by("id").limit(100).values(*FIELDS))


async def add(name: str, email: str) -> bytes:
    user = await User.create(name=name, email=email)
    return orjson.dumps({"message": "User created", "user": {"id": user.id, "name": user.name, "email": user.email}})
