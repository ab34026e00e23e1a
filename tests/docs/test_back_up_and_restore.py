"""The commands of docs/how-to/back-up-and-restore.md, for SQLite."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.server_process import environment

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "back-up-and-restore.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADD = "INSERT INTO users (name, email, email_key) VALUES (?, ?, ?)"


def shell(folder: Path, commands: str) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    ended = subprocess.run(
        ("sh", "-ec", commands), cwd=folder, env=environment(PATH=path), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.process
def test_what_the_page_backs_up_it_restores(tmp_path: Path, migrated_file: Path) -> None:
    back_up, nightly, restore = COMMANDS.findall(PAGE.read_text("utf-8"))[:3]
    shutil.copy(migrated_file, tmp_path / "quart_async_api.db")
    with closing(sqlite3.connect(tmp_path / "quart_async_api.db", isolation_level=None)) as database:
        database.execute(ADD, ("before", "1", "1"))
        assert "checked" in shell(tmp_path, back_up)
        assert "checked" in shell(tmp_path, nightly.replace("/var/backups/quart-async-api", str(tmp_path)))
        database.execute(ADD, ("after", "2", "2"))
    assert "the database is up to date" in shell(tmp_path, restore)
    with closing(sqlite3.connect(tmp_path / "quart_async_api.db")) as database:
        assert database.execute("SELECT name FROM users").fetchall() == [("before",)]
