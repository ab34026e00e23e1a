"""The units of deploy/systemd: systemd reads them, finds little to object to, and the service can work under them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quart_async_api.settings import Settings
from tests.process.conftest import CHECKOUT, assert_clean
from tests.process.wire import get
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

UNITS = CHECKOUT / "deploy" / "systemd"
INSTANCES = {"quart-async-api@": "8001", "quart-async-api-worker@": "9001", "quart-async-api-migrate": ""}
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 2.0
# Programs that are started in this way can make no memory both writable and executable (prctl PR_SET_MDWE).
NO_WRITABLE_CODE = (
    "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as on a host: with the numbers of their ports, and a program that exists."""
    if ANALYZE is None:
        pytest.skip("there is no systemd-analyze")
    for file in UNITS.iterdir():
        text = file.read_text().replace("/opt/quart-async-api/bin", str(Path(sys.executable).parent))
        name = f"{file.stem}{INSTANCES.get(file.stem, '')}{file.suffix}"
        (tmp_path / name).write_text(text)
    return sorted(tmp_path.glob("*.service"))


def analyze(*arguments: str | Path) -> str:
    assert ANALYZE is not None
    ended = subprocess.run((ANALYZE, *arguments), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_systemd_finds_no_fault_and_little_exposure(units: list[Path]) -> None:
    assert len(units) == len(INSTANCES)
    assert analyze("verify", "--man=no", *units) == ""
    for unit in units:
        report = analyze("security", "--offline=true", unit)
        found = re.search(r"exposure level for \S+: ([\d.]+)", report)
        assert found, report
        assert float(found[1]) < EXPOSURE, report


def test_systemd_waits_for_the_drain() -> None:
    for name in ("quart-async-api@", "quart-async-api-worker@"):
        found = re.search(r"^TimeoutStopSec=(\d+)$", (UNITS / f"{name}.service").read_text(), re.MULTILINE)
        assert found
        assert int(found[1]) > Settings().drain_seconds + Settings().cancel_seconds


def test_the_service_needs_no_memory_that_is_writable_and_executable(tmp_path: Path, database_file: Path) -> None:
    if subprocess.run((sys.executable, "-c", NO_WRITABLE_CODE, "/bin/true"), check=False).returncode:
        pytest.skip("this kernel cannot forbid it")
    command = (sys.executable, "-c", NO_WRITABLE_CODE, *PROGRAM, "serve", "--bind", "127.0.0.1:0")
    settings = {"QAA_DATABASE_URL": f"sqlite://{database_file}", "QAA_DELAY": "0", "PYTHONPATH": str(CHECKOUT)}
    with ServerProcess(tmp_path, settings, command) as server:
        assert get(server.port, "/test").json == {"result": 1}
        assert server.stop() == 0
    assert_clean(server)
