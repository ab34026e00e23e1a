"""The folder of shared metrics, after a supervisor that was killed."""

import os
import tempfile
from pathlib import Path

import pytest

from quart_async_api.observability import shared_metrics
from quart_async_api.observability.shared_metrics import shared


def test_the_folder_of_a_supervisor_that_was_killed_stayed_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(shared_metrics.FOLDER, raising=False)
    left, new, foreign = (
        tmp_path / f"{name}1" for name in (shared_metrics._PREFIX, shared_metrics._PREFIX * 2, "other-")
    )
    with shared(on=True) as used:
        assert used is not None
        for folder in (left, new, foreign):
            folder.mkdir()
            (folder / "counter.db").touch()
        for folder in (used, left, foreign):
            os.utime(folder, (0, 0))
        with shared(on=True) as mine:
            assert mine is not None
            assert set(tmp_path.iterdir()) == {used, new, foreign, mine}
    assert set(tmp_path.iterdir()) == {new, foreign}
