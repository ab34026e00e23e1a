"""Prometheus's own checker, from Debian's package where it is missing. The package is only unpacked: no server starts."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[1] / "build" / "promtool"
_SECONDS = 300


@cache
def find() -> str | None:
    """Return the path of promtool, or None if it is not there and cannot be fetched."""
    unpacked = _FOLDER / "usr" / "bin" / "promtool"
    found = shutil.which("promtool") or (str(unpacked) if unpacked.is_file() else None)
    if found is None and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _fetch()
        found = str(unpacked) if unpacked.is_file() else None
    return found


def _fetch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for command in (("apt-get", "update", "-qq"), ("apt-get", "download", "-qq", "prometheus")):
            try:
                subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.TimeoutExpired):
                return
        for package in Path(folder).glob("prometheus_*.deb"):
            subprocess.run(("dpkg-deb", "-x", package, _FOLDER), capture_output=True, timeout=_SECONDS)


def check(*arguments: str, text: bytes = b"") -> None:
    """Run `promtool check`, which must find nothing. Skips the test where there is no promtool; in CI it fails."""
    promtool = find()
    if promtool is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("there is no promtool: install Debian's package prometheus")
        pytest.skip("there is no promtool: install Debian's package prometheus")
    done = subprocess.run((promtool, "check", *arguments), input=text, capture_output=True, timeout=_SECONDS)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode() + done.stdout.decode()
