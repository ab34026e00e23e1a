"""`make site`: every page is built, nothing is fetched from elsewhere, and the search works from a file."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs.collect import ROOT, collect, pages
from playwright.sync_api import Browser, expect

from tests.browser.conftest import browser  # noqa: F401

pytestmark = pytest.mark.process

_ELSEWHERE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    collect(folder / "build" / "pages")
    built = build(folder)
    assert built.returncode == 0, built.stderr + built.stdout
    return folder / "build" / "site"


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, capture_output=True, text=True, timeout=300
    )


class Assets(HTMLParser):
    """The addresses that a browser fetches by itself when it shows the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        names = {"a": (), "link": ("href",)}.get(tag, ("src", "srcset", "poster", "data"))
        self.found += [given[name] for name in names if name in given]
        self.found += re.findall(r"url\(([^)]*)\)", given.get("style", ""))


def test_every_page_is_built(site: Path) -> None:
    built = {page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html")}
    named = {page.relative_to(ROOT).as_posix().replace("README", "index") for page in pages()}
    assert named <= built


def test_the_menu_names_every_page() -> None:
    """The list of `nav` in mkdocs.yml. A page that is missing there can only be found by the search."""
    named = re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2])
    assert sorted(named) == sorted(page.relative_to(ROOT).as_posix() for page in pages())


def test_no_page_fetches_an_asset_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert [asset for asset in Assets(page.read_text("utf-8")).found if _ELSEWHERE.match(asset)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", sheet.read_text("utf-8")) == [], sheet


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "mkdocs.yml").write_text("site_name: x\ndocs_dir: pages\n")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# Home\n\n[gone](gone.md)\n")
    built = build(tmp_path)
    assert built.returncode != 0
    assert "page does not exist" in built.stdout + built.stderr


@pytest.mark.browser
def test_the_search_works_from_a_file_and_asks_no_host(site: Path, browser: Browser) -> None:  # noqa: F811
    asked: list[str] = []
    with browser.new_context() as context:
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("outbox")
        expect(page.get_by_role("option").filter(has_text="Glossary").first).to_be_visible(timeout=60_000)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
