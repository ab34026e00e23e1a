"""`serve --reload`: a changed file is served by a new process, and broken code stops nothing."""

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from quart_async_api import Settings
from quart_async_api.errors import StartupError
from quart_async_api.server.reloading import sources, watched
from tests.engine.conftest import until
from tests.in_process import invoke
from tests.process.conftest import assert_clean
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

SHOP = """
from quart_async_api import App, Settings, create_app


def make_app(settings: Settings | None = None) -> App:
    app = create_app(settings, tutorial=False)

    @app.get("/stock")
    async def stock() -> str:
        return "{}"

    return app
"""
BROKEN = "from nowhere import nothing\n"
COMMAND = (*PROGRAM, "serve", "shop:make_app", "--reload", "--bind", "127.0.0.1:0")


def test_a_change_is_served_and_broken_code_waits_for_the_next_change(tmp_path: Path, database_file: Path) -> None:
    shop = tmp_path / "shop.py"
    shop.write_text(BROKEN)
    with ServerProcess(tmp_path, {"QAA_DATABASE_URL": f"sqlite://{database_file}"}, COMMAND) as server:
        server.wait_for("shop cannot be imported: ModuleNotFoundError: No module named 'nowhere'")
        server.wait_for("the next change starts a new one")
        # Each text has another length: bytecode is compared by seconds and size.
        shop.write_text(SHOP.format("three"))
        server.wait_for("replaced all processes")
        assert httpx.get(f"{server.url}/stock").text == "three"
        shop.write_text(BROKEN)
        server.wait_for("a new process ended before it served; the old processes stay")
        assert httpx.get(f"{server.url}/stock").text == "three"
        shop.write_text(SHOP.format("four"))
        server.wait_for("replaced all processes", 2)
        assert httpx.get(f"{server.url}/stock").text == "four"
        assert server.stop() == 0, server.log
    assert_clean(server)


async def test_a_watch_that_failed_said_nothing_and_kept_the_processes_from_their_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched([tmp_path / "gone"], asyncio.Event()):
        await until(lambda: "cannot watch the files" in caplog.text)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(StartupError, match=r"pip install 'quart-async-api\[reload\]'"):
        sources(Settings())


def test_several_processes_are_refused() -> None:
    refused = invoke("serve", "--reload", "--processes", "2")
    assert refused.exit_code == 2
    assert "--reload works with one process: leave out --processes." in refused.stderr
