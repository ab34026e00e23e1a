"""A signal at the wrong moment: while nothing has started yet, or from a terminal that is gone."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.process.conftest import Start
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

# Says what it has imported.
SERVE = (sys.executable, "-X", "importtime", *PROGRAM[1:], "serve", "--bind", "127.0.0.1:0")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["click", "quart"])
def test_a_signal_while_the_program_is_still_imported_ends_it_well_and_without_a_word(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    with ServerProcess(tmp_path, {}, SERVE) as server:
        server.wait_for(rf"(?m)\| +{module}$")
        assert server.stop(number) == 0
        assert [line for line in server.log.splitlines() if not line.startswith("import time:")] == []


def test_no_hang_up_is_heard_where_it_is_ignored_as_by_nohup(tmp_path: Path) -> None:
    missing = {"QAA_DATABASE_URL": f"sqlite://{tmp_path}/missing.db"}
    with ServerProcess(tmp_path, missing, ("nohup", *SERVE)) as server:
        server.wait_for(r"(?m)\| +click$")
        server.send(signal.SIGHUP)
        assert server.wait() == 1
        assert "there is no database" in server.log


def test_root_is_warned_once_and_nobody_else(start: Start) -> None:
    server = start()
    server.wait_for("listens on")
    assert server.stop() == 0
    assert server.log.count("runs as root") == (os.geteuid() == 0)
