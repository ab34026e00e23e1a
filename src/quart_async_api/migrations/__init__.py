"""The schema's history. A checkout keeps the files in its top-level `migrations/`; a wheel has them in this folder."""

from pathlib import Path

_checkout = Path(__file__).resolve().parents[3]
if (_checkout / "pyproject.toml").is_file() and (_checkout / "migrations").is_dir():
    __path__ = [str(_checkout / "migrations")]
