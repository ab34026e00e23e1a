"""The benchmarks: they run with the code of today, and leave no tracked file changed."""

import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_make_bench_left_tracked_files_changed(file: Path) -> None:
    results: Path = runpy.run_path(str(file))["RESULTS"]
    assert results == ROOT / "build" / "bench"


def test_make_bench_keep_says_what_to_run_first(tmp_path: Path) -> None:
    command = ["make", "-f", str(ROOT / "Makefile"), "bench-keep"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
    assert "run make bench" in outcome.stderr
    (tmp_path / "build" / "bench").mkdir(parents=True)
    (tmp_path / "build" / "bench" / "jobs.json").write_text("{}")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "benchmarks" / "results" / "jobs.json").read_text() == "{}"
