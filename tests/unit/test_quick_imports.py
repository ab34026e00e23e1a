"""What the app does not import, and that imports behave as ever afterwards."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import tortoise.models

from quart_async_api.quick_imports import without_module, without_sources
from tests.server_process import environment

NEVER = ("rich", "pygments", "psycopg", "granian", "uvicorn", "unittest.mock")


@pytest.mark.process
def test_the_app_is_loaded_without_the_command_line_of_httpx_and_without_the_sources_of_models(tmp_path: Path) -> None:
    program = (
        "import sys, linecache, quart_async_api.app, quart_async_api.server.runner\n"
        f"print([name for name in {NEVER} if name in sys.modules], [name for name in linecache.cache if 'models' in name])"
    )
    ended = subprocess.run(
        (sys.executable, "-c", program), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[] []\n"


def test_a_module_that_was_left_out_can_be_imported_later() -> None:
    sys.modules.pop("this", None)
    with without_module("this"), pytest.raises(ImportError):
        import_module("this")
    assert import_module("this") is sys.modules["this"]
    with without_module("this"):
        assert import_module("this") is sys.modules["this"]


def test_models_of_others_keep_their_comments() -> None:
    with without_sources(), pytest.raises(OSError, match="not looked up"):
        inspect.getsource(Path)
    assert "class Path" in inspect.getsource(Path)
    assert "#:" in inspect.getsource(tortoise.models._get_comments)
