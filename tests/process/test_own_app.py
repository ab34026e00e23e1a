"""An app of one's own by `serve module:make_app` and `worker module:make_app`, and by QAA_APP."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from quart_async_api.client import Client
from tests.process.conftest import assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process

SHOP = """
import os
from quart import Blueprint
from quart_async_api import Settings, TaskContext, create_app, task

blueprint = Blueprint("shop", __name__)

@task("pack")
async def pack(ctx: TaskContext, *, order: int) -> list[int]:
    return [order, os.getpid()]

@blueprint.get("/stock")
async def stock() -> str:
    return "3"

def make_app(settings: Settings | None = None):
    return create_app(settings, tutorial=False, tasks=[pack], blueprints=[blueprint])
"""


def test_servers_and_workers_run_the_app_that_their_command_names_and_the_others_find_it(
    tmp_path: Path, database_file: Path
) -> None:
    (tmp_path / "shop_app.py").write_text(SHOP)
    settings = {"QAA_DATABASE_URL": f"sqlite://{database_file}"}
    serve = (*PROGRAM, "serve", "shop_app:make_app", "--bind", "127.0.0.1:0", "--processes", "2", "--no-jobs")
    with (
        ServerProcess(tmp_path, settings, serve) as server,
        ServerProcess(tmp_path, settings, (*PROGRAM, "worker", "shop_app:make_app")) as worker,
    ):
        assert server.url
        assert worker.url
        with Client(server.url) as client:
            job = client.wait(client.submit("pack", {"order": 4}))
            assert job.result == [4, worker.pid]
        assert httpx.get(f"{server.url}/stock").text == "3"
        assert httpx.get(f"{server.url}/users").status_code == 404
        assert httpx.get(f"{worker.url}/stock").status_code == 404
        with closing(sqlite3.connect(database_file)) as database:
            engines = [engine for (engine,) in database.execute("SELECT engine FROM workers")]
        assert sorted(engines) == ["embedded", "none", "none"]
        named = settings | {"QAA_APP": "shop_app:make_app"}
        submitted = run((*PROGRAM, "jobs", "submit", "pack", "order=6", "--watch"), tmp_path, named)
        assert submitted.returncode == 0, submitted.stderr
        assert (server.stop(), worker.stop()) == (0, 0)
    assert_clean(server)
    assert_clean(worker)
    document = run((*PROGRAM, "openapi", "shop_app:make_app"), tmp_path, settings).stdout
    assert "/users" not in json.loads(document)["paths"]
