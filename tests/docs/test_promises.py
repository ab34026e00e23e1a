"""Each test that docs/explanation/promises.md names is there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "promises.md"
NAMED = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", PAGE.read_text("utf-8"))


@pytest.mark.parametrize(("name", "file"), NAMED, ids=[name for name, _ in NAMED])
def test_the_promise_is_tested(name: str, file: str) -> None:
    assert f"def {name}(" in (PAGE.parent / file).read_text("utf-8")


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "---" not in line]
    assert [row for row in rows if "](" not in row and "shown by" not in row] == []
