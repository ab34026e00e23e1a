"""The examples and the project of `new`, with their tests, and the Python of the pages for users, import public names only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.public import MODULES

ROOT = Path(__file__).parents[2]
PUBLIC = {module.__name__: set(module.__all__) for module in MODULES}
PAGES = [ROOT / "README.md", *(ROOT / "docs" / "how-to").glob("*.md"), *(ROOT / "docs" / "tutorial").glob("*.md")]
SOURCES = sorted([*ROOT.glob("examples/**/*.py"), *ROOT.glob("project/**/*.py")])
_SNIPPET = re.compile(r"(?<!-->\n)^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # not a quotation of the code


def _private(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quart_async_api"):
            known = PUBLIC.get(node.module or "", set())
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name not in known)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("quart_async_api")]
            yield from (name for name in names if name not in PUBLIC)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_an_example_imports_public_names_only(source: Path) -> None:
    assert list(_private(source.read_text("utf-8"))) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_imports_public_names_only(page: Path) -> None:
    assert [name for code in _SNIPPET.findall(page.read_text("utf-8")) for name in _private(code)] == []


def test_a_private_import_is_found() -> None:
    code = "from quart_async_api.app import App\nimport quart_async_api.db.url\nfrom quart_async_api import App, parts"
    assert list(_private(code)) == ["quart_async_api.app.App", "quart_async_api.db.url", "quart_async_api.parts"]
