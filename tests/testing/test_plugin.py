"""The plugin in a folder of its own: the example of docs/how-to/test-your-service.md, and a suite that does not use it."""

import re
import sys
from pathlib import Path

import pytest

from tests.server_process import run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-your-service.md"
UNRELATED = """
import sys

def test_nothing_of_the_service_is_loaded(request):
    assert "quart_async_api.testing.plugin" in sys.modules
    assert {"quart", "tortoise", "httpx", "pydantic", "quart_async_api.settings"}.isdisjoint(sys.modules)
"""


def write_example(folder: Path) -> None:
    for name, code in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        (folder / name).write_text(code)
    assert {file.name for file in folder.iterdir()} == {"shop.py", "pyproject.toml", "test_shop.py", "conftest.py"}


def pytest_in(folder: Path, *options: str) -> str:
    own = ("-p", "quart_async_api.testing.plugin", "-p", "no:schemathesis", "-W", "error", "--strict-markers")
    ended = run((sys.executable, "-m", "pytest", "-q", *own, *options), folder, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", pytest.param("strict", marks=pytest.mark.soak)])
def test_the_example_of_the_page_works(tmp_path: Path, mode: str) -> None:
    write_example(tmp_path)
    if mode == "strict":
        (tmp_path / "conftest.py").unlink()
        tests = (tmp_path / "test_shop.py").read_text()
        marked = re.sub(r"^async def", "@pytest.mark.asyncio\nasync def", tests, flags=re.MULTILINE)
        (tmp_path / "test_shop.py").write_text(marked)
    assert "6 passed" in pytest_in(tmp_path, "-o", f"asyncio_mode={mode}")


@pytest.mark.process
def test_a_suite_that_does_not_use_it_loads_nothing_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "test_unrelated.py").write_text(UNRELATED)
    assert "1 passed" in pytest_in(tmp_path, "-p", "no:asyncio")
