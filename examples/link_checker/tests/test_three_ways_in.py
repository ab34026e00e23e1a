"""The tasks come in by `create_app(tasks=…)`, as the other tests have them; by a setting; and by being installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROJECT = Path(__file__).parents[1]

TASKS_OF_A_PLAIN_SERVICE = """
from quart_async_api import create_app
from quart_async_api.http.parts import EXTENSION

app = create_app()
print(*sorted(app.extensions[EXTENSION].tasks))
"""


def tasks_of_a_plain_service(folder: Path, **environment: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", TASKS_OF_A_PLAIN_SERVICE],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_a_setting_names_them(folder: Path) -> None:
    assert "check-site" not in tasks_of_a_plain_service(folder)
    found = tasks_of_a_plain_service(folder, PYTHONPATH=str(PROJECT / "src"), QAA_TASKS="link_checker.tasks")
    assert {"check-link", "check-site", "start-task"} <= found


@pytest.mark.timeout(120)
def test_installing_the_project_is_enough(folder: Path) -> None:
    installed = folder / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--target", installed, PROJECT], check=True, timeout=100)
    assert {"check-link", "check-site"} <= tasks_of_a_plain_service(folder, PYTHONPATH=str(installed))
