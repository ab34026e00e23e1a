"""`quart-async-api new` in a folder: what it writes, and the one line with which it refuses a name."""

from pathlib import Path

import pytest
from click.testing import Result

from quart_async_api import __version__
from tests.in_process import invoke


def new(name: str) -> Result:
    return invoke("new", name)


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize(("name", "package"), [("my-shop", "my_shop"), ("bazaar", "bazaar")])
def test_each_file_has_the_name_of_the_project_and_this_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    (tmp_path / name).mkdir()  # an empty folder is as good as none
    # `python -m quart_async_api` and the import of an app both prepend it: to them, the folder is a package.
    for _ in range(2):
        monkeypatch.syspath_prepend("")
    ended = new(name)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.endswith(f"Next:\n  cd {name}\n  make test\n  make run\n")
    made = tmp_path / name
    assert (made / "src" / package / "app.py").is_file()
    assert (made / "wheels").is_dir()
    assert f'"quart-async-api~={__version__}"' in (made / "pyproject.toml").read_text()
    for file in files(made):
        for text in (str(file), file.read_text()):
            assert "starter" not in text
            assert "9999" not in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Shop", "'Shop' cannot be the name of a package"),
        ("../shop", "'../shop' cannot be the name of a package"),
        ("shop-", "'shop-' cannot be the name of a package"),
        ("s" * 41, f"'{'s' * 41}' cannot be the name of a package"),
        ("class", "'class' is a keyword of Python"),
        ("email", "'email' is a module of Python or of an installed package"),
        ("quart-async-api", "'quart_async_api' is a module of Python or of an installed package"),
        ("full", "full exists and is not an empty folder"),
        ("file", "file exists and is not an empty folder"),
    ],
)
def test_a_name_that_no_project_can_have_is_refused_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    ended = new(name)
    assert (ended.exit_code, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert "another name" in line or "lower-case letters" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "bazaar").symlink_to(tmp_path / "nowhere")
    ended = new("bazaar")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (1, "", "Error: cannot write bazaar: File exists\n")
