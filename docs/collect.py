"""`python -m docs.collect FOLDER` copies the pages, and every file that they link to, into a new folder for the site."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")


def pages() -> list[Path]:
    """The Markdown files of the site, README.md first."""
    return [*sorted(ROOT.glob("*.md"), key=lambda page: page.name != "README.md"),
            *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]  # fmt: skip


def files() -> Iterator[Path]:
    """The pages, the assets, and the files of the project that a page links to."""
    yield from (file for file in (ROOT / "docs" / "assets").rglob("*") if file.is_file())
    for page in pages():
        yield page
        targets = (page.parent / link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link)
        yield from (target.resolve() for target in targets if target.is_file())


def collect(folder: Path) -> None:
    """Copy `files` to `folder`, which is emptied first, each at its path in the repository."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in set(files()):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
