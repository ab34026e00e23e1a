"""Makes a project on this one from the files of `project`."""

import json
import re
import shutil
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .. import __version__

_PACKAGED = Path(__file__).parents[1] / "project"
_CHECKOUT = Path(__file__).parents[3] / "project"
_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,38}[a-z0-9])?")


def fault(name: str) -> str | None:
    """Return why no project can have this name here, and what to do, or None."""
    package, folder = _package(name), Path.cwd() / name
    if not _NAME.fullmatch(name):
        return (
            f"{name!r} cannot be the name of a package: take 1 to 40 lower-case letters, digits and dashes, "
            "and begin with a letter, as in my-shop"
        )
    if iskeyword(package):
        return f"{name!r} is a keyword of Python: take another name, as my-{name}"
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        return f"{folder} exists and is not an empty folder: take another name, or remove it"
    found = find_spec(package)  # the folder itself, if it is in the path
    if package in sys.stdlib_module_names or (found and set(found.submodule_search_locations or ()) != {str(folder)}):
        return f"{package!r} is a module of Python or of an installed package: take another name, as my-{name}"
    return None


def make(name: str) -> bool:
    """Make the project in the folder `name`. Return whether its wheel of quart-async-api is in it. Raises OSError."""
    written = {"starter-project": name, "starter": _package(name), "9999.0": __version__}
    source = _CHECKOUT if _CHECKOUT.is_dir() else _PACKAGED
    wheel = _wheel()
    for file in source.rglob("*"):
        relative = str(file.relative_to(source))
        if file.is_file() and "cache" not in relative:  # of Python and ruff
            made = Path(name, _filled(relative, written))
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(_filled(file.read_text("utf-8"), written), "utf-8")
    Path(name, "wheels").mkdir()
    if wheel is not None:
        shutil.copy(wheel, Path(name, "wheels"))
    return wheel is not None


def _package(name: str) -> str:
    return name.replace("-", "_")


def _filled(text: str, written: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, written)), lambda found: written[found[0]], text)


def _wheel() -> Path | None:
    """Return the wheel that this package was installed from, if it is still there (PEP 610)."""
    recorded = distribution("quart-async-api").read_text("direct_url.json")
    url = urlsplit(json.loads(recorded)["url"]) if recorded else None
    if url is None or url.scheme != "file" or not url.path.endswith(".whl"):
        return None
    file = Path(url2pathname(url.path))
    return file if file.is_file() else None
