"""The tasks come in by `create_app(tasks=…)`, as the other tests have them; by a setting; and by being installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROJECT = Path(__file__).parents[1]
DOCUMENT = [sys.executable, "-m", "quart_async_api", "openapi"]


def tasks_of_a_plain_service(folder: Path, **environment: str) -> set[str]:
    """The tasks that its OpenAPI document names."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("QAA_")}
    ended = subprocess.run(
        DOCUMENT, cwd=folder, env=own | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(re.findall(r'"([a-z-]+)"', ended.stdout))


def test_a_setting_names_them(tmp_path: Path) -> None:
    assert "check-site" not in tasks_of_a_plain_service(tmp_path)
    found = tasks_of_a_plain_service(tmp_path, PYTHONPATH=str(PROJECT / "src"), QAA_TASKS="link_checker.tasks")
    assert {"check-link", "check-site", "start-task"} <= found


def test_installing_the_project_is_enough(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--target", installed, PROJECT], check=True, timeout=500)
    assert {"check-link", "check-site"} <= tasks_of_a_plain_service(tmp_path, PYTHONPATH=str(installed))
