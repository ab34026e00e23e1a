"""pyproject.toml names what the code imports, and bounds the libraries whose private parts it uses."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
OURS = {"quart_async_api", "tests", "docs", "benchmarks", "link_checker", "shop"}


PEERS = CHECKOUT / "benchmarks" / "peers"  # which run in environments of their own

distributions = cache(packages_distributions)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(lines: Iterable[str]) -> dict[str, str]:
    """What is asked of each distribution, by its name."""
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", line) for line in lines)
    return {normalised(match[1]): match[2] for match in found if match}


RUNTIME = requirements(PYPROJECT["project"]["dependencies"])
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
POSTGRESQL = requirements(EXTRAS["postgresql"])
DISTRIBUTED = POSTGRESQL | requirements(EXTRAS["distributed"])
OBSERVABILITY = requirements(EXTRAS["observability"])
EXTRA = DISTRIBUTED | OBSERVABILITY | requirements([*EXTRAS["reload"], *EXTRAS["testing"]])
DEVELOPMENT = requirements(PYPROJECT["dependency-groups"]["dev"])


@cache
def imported(folder: str) -> list[tuple[str, str]]:
    """Each module of others that a file of `folder` imports, wherever it does, with the file."""
    return list(_imported(folder))


def _imported(folder: str) -> Iterator[tuple[str, str]]:
    for file in sorted((CHECKOUT / folder).rglob("*.py")):
        if "node_modules" in file.parts or file.parent == PEERS != CHECKOUT / folder:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in (name.partition(".")[0] for name in names):
                if name not in sys.stdlib_module_names | OURS:
                    yield name, str(file.relative_to(CHECKOUT))


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        ("src", RUNTIME | EXTRA),
        *((folder, RUNTIME | EXTRA | DEVELOPMENT) for folder in ("tests", "docs", "benchmarks")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_imported_is_declared(folder: str, declared: dict[str, str]) -> None:
    provided_by = distributions()
    missing = {
        f"{name} ({file})"
        for name, file in imported(folder)
        if declared.keys().isdisjoint(map(normalised, provided_by.get(name, [name])))
    }
    assert not missing


def test_what_is_declared_is_imported() -> None:
    provided_by = distributions()
    used = {normalised(each) for name, _ in imported("src") for each in provided_by.get(name, [name])}
    assert RUNTIME.keys() | EXTRA.keys() <= used  # several distributions provide `opentelemetry`


@pytest.mark.parametrize(
    "name",
    [
        "aiohttp",
        "aiosqlite",
        "h11",
        "h2",
        "hypercorn",
        "procrastinate",
        "psycopg",
        "psycopg-pool",
        "pydantic",
        "quart",
        "tortoise-orm",
        "wsproto",
    ],
)
def test_a_library_whose_inside_is_used_has_an_upper_bound(name: str) -> None:
    assert "<" in (RUNTIME | EXTRA)[name]


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("core", RUNTIME),
        ("postgresql", RUNTIME | POSTGRESQL),
        ("distributed", RUNTIME | DISTRIBUTED),
        ("observability", RUNTIME | OBSERVABILITY),
        ("dev", DEVELOPMENT | EXTRA),
    ],
)
def test_what_is_declared_is_locked(lock: str, declared: dict[str, str]) -> None:
    locked = re.findall(r"^([a-z0-9._-]+)==", (CHECKOUT / f"requirements/{lock}.txt").read_text(), re.MULTILINE)
    assert declared.keys() <= set(map(normalised, locked))


@pytest.mark.parametrize("lock", ["core", "postgresql", "distributed", "observability"])
def test_what_users_install_is_what_the_tests_run_on(lock: str) -> None:
    """Down to the hashes of the files, which are checked when the environment of the tests is made."""
    of_users, of_tests = (
        {
            (name, version, tuple(re.findall("sha256:.*", hashes)))
            for name, version, hashes in re.findall(
                r"^([\w.-]+)==([\w.]+)(.*(?:\n .*)+)", (CHECKOUT / f"requirements/{each}.txt").read_text(), re.MULTILINE
            )
        }
        for each in (lock, "dev")
    )
    assert of_users
    assert of_users <= of_tests


def test_what_the_peers_of_the_benchmarks_import_is_locked() -> None:
    asked = requirements(line for file in PEERS.glob("*.in") for line in file.read_text().splitlines())
    text = "".join(file.read_text() for file in PEERS.glob("*.txt"))
    locked = set(map(normalised, re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)))
    assert asked.keys() <= locked
    provided_by, own = distributions(), {file.stem for file in PEERS.glob("*.py")}
    for name, file in imported("benchmarks/peers"):
        assert name in own or not locked.isdisjoint(map(normalised, provided_by.get(name, [name]))), file
    assert "://" not in text


def test_each_dependency_has_its_reason() -> None:
    page = (CHECKOUT / "docs/explanation/dependencies.md").read_text()
    tables = page.partition("## What is written by hand")[0].splitlines()
    named = {
        normalised(name)
        for line in tables
        if line.startswith("|")
        for name in re.findall(r"[\w-]+", line.split("|")[1])
    }
    build = requirements(PYPROJECT["dependency-groups"]["build"])
    assert (RUNTIME | EXTRA | DEVELOPMENT | build).keys() <= named
