"""What programs of others make of the document: linters find nothing, and generated clients submit, wait and read a result."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shop.app import make_app

from quart_async_api import Settings, create_app
from quart_async_api.http.contract.openapi import document
from tests.process.conftest import serve
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

MODULES = Path(__file__).parents[1] / "node_modules"
CLIENT = Path(__file__).with_name("client.ts")


def run(folder: Path, *command: str | Path) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def program(name: str) -> Path:
    """A program of a package of npm."""
    if not (found := MODULES / ".bin" / name).exists():
        pytest.skip("npm has not installed tests/package.json; `make test` does, where there is npm")
    return found


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The document of the service as it is, and that of an app on it: the shop of `examples/`, without the tutorials."""
    folder = tmp_path_factory.mktemp("documents")
    files = [folder / "service.json", folder / "shop.json"]
    for file, app in zip(files, (create_app(Settings()), make_app(Settings())), strict=True):
        file.write_bytes(document(app))
    return files


def test_spectral_finds_nothing(documents: list[Path]) -> None:
    folder = documents[0].parent
    (folder / "rules.yaml").write_text('extends: ["spectral:oas"]\n')
    found = run(folder, program("spectral"), "lint", "--ruleset", "rules.yaml", "--fail-severity", "hint", *documents)
    assert "No results" in found


def test_redocly_finds_nothing(documents: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDOCLY_TELEMETRY", "off")
    monkeypatch.setenv("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
    found = run(documents[0].parent, program("redocly"), "lint", "--format", "json", *documents)
    reports = json.loads(f"[{found.replace('}{', '},{')}]")  # one after the other
    assert [report["problems"] for report in reports] == [[], []]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[ServerProcess]:
    with serve(tmp_path_factory.mktemp("server"), migrated_file) as server:
        yield server


def test_a_client_of_openapi_typescript_compiles_and_runs_a_job(
    documents: list[Path], server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "client.ts").write_bytes(CLIENT.read_bytes())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(MODULES)
    run(tmp_path, program("openapi-typescript"), documents[0], "--default-non-nullable=false", "--output", "service.ts")
    run(
        tmp_path,
        program("tsc"),
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--skipLibCheck",
        "client.ts",
    )
    answer = json.loads(run(tmp_path, "node", "client.js", server.url))
    assert answer["status"] == "succeeded"
    assert answer["result"]["results"] == ["Task 1 Complete", "Task 2 Complete"]
    assert answer["refused"] == "#/args/nonsense"


def test_a_client_of_openapi_python_client_compiles_and_runs_a_job(
    documents: list[Path], server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("post_hooks: []\npackage_name_override: generated_client\n")
    generator = Path(sys.executable).with_name("openapi-python-client")
    options = ("--config", "config.yaml", "--meta", "none", "--fail-on-warning")
    run(tmp_path, generator, "generate", "--path", documents[0], "--output-path", "generated_client", *options)
    run(tmp_path, sys.executable, "-m", "compileall", "-q", "generated_client")
    monkeypatch.syspath_prepend(tmp_path)

    def generated(name: str) -> Any:
        return importlib.import_module(f"generated_client.{name}")

    models = generated("models")
    body = models.NewGatherJob(task="gather", args=models.GatherArguments(), priority=5)
    with generated("client").Client(base_url=server.url, timeout=60) as client:
        job = generated("api.jobs.post_jobs").sync(client=client, body=body)
        ended = generated("api.jobs.get_jobs_job_id").sync(job.id, client=client, prefer="wait=30")
        result = generated("api.jobs.get_jobs_job_id_result").sync(job.id, client=client)
    assert (ended.status, ended.priority) == (models.Status.SUCCEEDED, 5)
    assert result["results"] == ["Task 1 Complete", "Task 2 Complete"]
