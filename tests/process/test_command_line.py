"""The commands besides `serve`: quick, quiet, and readable by scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quart_async_api import __version__
from tests.process.conftest import ALL_MIGRATIONS
from tests.server_process import PROGRAM, environment, run

pytestmark = pytest.mark.process

HEAVY = ("quart", "hypercorn", "tortoise", "aiohttp", "httpx", "pydantic", "uvloop")


def output(folder: Path, *command: str) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=True
    )
    assert ended.stderr == ""
    return ended.stdout


def forked_output(folder: Path, *words: str) -> str:
    ended = run((*PROGRAM, *words), folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_command_line_is_loaded_without_what_its_commands_need(tmp_path: Path) -> None:
    program = f"import quart_async_api.commands.main, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert output(tmp_path, sys.executable, "-c", program) == "[]\n"


@pytest.mark.parametrize("command", [(), ("serve",), ("migrate",), ("openapi",)], ids=" ".join)
def test_every_command_has_its_help_and_touches_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert "Usage:" in output(tmp_path, *PROGRAM, *command, "--help")
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_told(tmp_path: Path) -> None:
    assert __version__ in output(tmp_path, *PROGRAM, "--version")


def test_migrate_says_what_it_applied_and_then_that_nothing_is_left(tmp_path: Path) -> None:
    assert forked_output(tmp_path, "migrate") == f"applied {ALL_MIGRATIONS}\n"
    assert forked_output(tmp_path, "migrate") == "the database is up to date\n"


def test_migrate_tells_a_script_in_json(tmp_path: Path) -> None:
    assert json.loads(forked_output(tmp_path, "migrate", "--json")) == {"applied": ALL_MIGRATIONS.split(", ")}
    assert json.loads(forked_output(tmp_path, "migrate", "--json")) == {"applied": []}


def test_the_document_is_printed_without_a_database(tmp_path: Path) -> None:
    assert json.loads(forked_output(tmp_path, "openapi"))["openapi"].startswith("3.1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["", "jobs list", "jobs nothing", "keys --help", "serve --bind nowhere", "serve"])
def test_the_program_that_the_tests_fork_does_what_the_one_they_start_does(tmp_path: Path, words: str) -> None:
    started = subprocess.run(
        (*PROGRAM, *words.split()), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    forked = run((*PROGRAM, *words.split()), tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_doctor_says_what_is_wrong_why_and_what_to_do(tmp_path: Path, database_file: Path) -> None:
    refused = run((*PROGRAM, "doctor"), tmp_path)
    assert (refused.returncode, refused.stderr) == (1, "")
    assert refused.stdout.splitlines()[-1] == "       do:  quart-async-api migrate"
    database_file.chmod(0o600)
    passed = run((*PROGRAM, "doctor", "--json"), tmp_path, {"QAA_DATABASE_URL": f"sqlite://{database_file}"})
    shown = json.loads(passed.stdout)
    assert (passed.returncode, shown["status"]) == (0, "pass"), shown
    assert {"name": "migrations", "status": "pass", "seen": "all are applied"} in shown["checks"]
