"""What a reader follows works: links, make targets, Python, quoted code, and the changelog's form."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FILES = [
    str(file.relative_to(ROOT))
    for folder in ("src", "tests", "docs", "benchmarks", "examples")
    for file in (ROOT / folder).rglob("*.py")
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"^<!-- from (?P<file>\S+) -->\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
_CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, spaces as hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_the_docs_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(prose(index))}
    assert {page for page in PAGES if index.parent in page.parents} == linked | {index}


@every_page
def test_every_python_file_that_a_page_names_is_there(page: Path) -> None:
    for name in re.findall(r"`([\w/]+\.py)`", prose(page)):
        assert any(f"/{file}".endswith(f"/{name}") for file in FILES), name


@every_page
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    code = "\n".join(
        re.findall(r"`([^`\n]+)`", prose(page)) + [found["code"] for found in _FENCED.finditer(page.read_text("utf-8"))]
    )
    named = re.findall(r"^(?:\$ )?make ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", code, re.MULTILINE)
    assert {target for words in named for target in words.split()} <= targets


def test_the_readme_begins_with_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text("utf-8").splitlines()[:32]
    assert {"make run", "make test"} <= {line.partition(" #")[0].strip() for line in first_screen}


@every_page
def test_every_python_snippet_compiles(page: Path) -> None:
    for snippet in _FENCED.finditer(_QUOTED.sub("", page.read_text("utf-8"))):
        if snippet["language"] == "python":
            ast.parse(snippet["code"])


@every_page
def test_quoted_code_is_the_code(page: Path) -> None:
    """Each line stands in the file that it is said to be from, in this order; `# …` stands for lines left out."""
    for quote in _QUOTED.finditer(page.read_text("utf-8")):
        source = (ROOT / quote["file"]).read_text("utf-8").splitlines()
        for part in re.split(r"^ *# …\n", quote["code"], flags=re.MULTILINE):
            lines = part.splitlines()
            starts = [start for start in range(len(source)) if source[start : start + len(lines)] == lines]
            assert starts, f"not in {quote['file']}:\n{part}"
            source = source[starts[0] + len(lines) :]


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert text.startswith("# Changelog\n")
    first, *releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    for release in releases:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= _CHANGES


# Of these two, one tells where each file came from, and the other is about a plan.
_ABOUT_OTHER_FILES = {"docs/explanation/house.md", "docs/architecture.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if str(page.relative_to(ROOT)) not in _ABOUT_OTHER_FILES])
def test_a_page_named_a_file_that_had_moved(page: Path) -> None:
    for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|c|md|json|toml))`", prose(page)):
        assert any((folder / path).is_file() for folder in (ROOT, ROOT / "src" / "quart_async_api")), path
