"""schemathesis runs all its checks in all its phases against every operation of the running service, and finds nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Json, Service

HERE = Path(__file__).parent

pytestmark = pytest.mark.process


PHASES = ("Examples", "Coverage", "Fuzzing", "Stateful")


def with_events(api: Any) -> Any:
    """The document with the schema of each event where it has a text: schemathesis reads streams, and asks for that."""
    if isinstance(api, list):
        return [with_events(each) for each in api]
    if not isinstance(api, dict):
        return api
    if api.get("contentMediaType") == "text/event-stream":
        return api["contentSchema"]["items"]
    return {name: with_events(each) for name, each in api.items()}


def finds_nothing(service: Service, api: Json, tmp_path: Path, *options: str, seconds: float) -> None:
    document = tmp_path / "openapi.json"  # from its own address, it would leave that one out
    document.write_text(json.dumps(with_events(api)), "utf-8")
    config = HERE / "schemathesis.toml"  # with what it is told, and why
    headers = [word for name, value in service.headers.items() for word in ("--header", f"{name}: {value}")]
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color", "run", *options]
    command += ["--phases", ",".join(PHASES).lower()]
    ended = subprocess.run(
        [*command, str(document), "--url", service.base_url, *headers],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},  # for its hooks
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    operations = sum(len(methods) for methods in api["paths"].values())
    assert f"Tested: {operations}\n" in ended.stdout
    for phase in PHASES:
        assert f"✅ {phase}\n" in ended.stdout


# It meets the same routes with and without a key: the soak tries both. test_examples.py sends each example in both ways.
@pytest.mark.parametrize("service", ["with a key"], indirect=True)
def test_schemathesis_finds_nothing(service: Service, api: Json, tmp_path: Path) -> None:
    finds_nothing(service, api, tmp_path, seconds=560)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing_with_many_examples(service: Service, api: Json, tmp_path: Path) -> None:
    finds_nothing(service, api, tmp_path, "--max-examples", "100", seconds=1700)
