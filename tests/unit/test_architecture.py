"""The arrows between the rooms: web, http → services → callbacks, jobs, db; leaves are anyone's; nothing points back."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest
from docs import rooms

import quart_async_api
import quart_async_api.testing

ROOT = rooms.ROOT
LEAVES = {"", *rooms.LEAVES}
# What each room or module at the top may import besides the leaves and itself.
MAY_IMPORT = {
    "__init__": {"app", "from_code", "http/contract", "http/delivery", "http/parts", "services"},
    "__main__": {"commands", "server"},
    "access": {"background", "callbacks", "db", "jobs"},
    "app": {
        "db",
        "http/contract",
        "http/guards",
        "http/json",
        "http/parts",
        "http/problems",
        "http/quart_dispatch",
        "http/registration",
        "http/routes",
        "observability",
        "service",
        "tutorial",
        "web",
        "wire",
    },
    "asgi": {"loading", "server"},
    "background": {"db"},
    "callbacks": {"background", "client", "db", "jobs", "observability", "upstream"},
    "client": set(),
    "commands": {
        "access",
        "callbacks",
        "client",
        "db",
        "http/contract",
        "jobs",
        "loading",
        "observability",
        "server",
        "service",
        "services",
    },
    "db": set(),
    "demo": {"commands"},
    "errors": set(),
    "from_code": {"access", "app", "db", "http/guards", "http/routes", "observability", "service", "services"},
    "http/__init__": set(),
    "http/begun": set(),
    "http/conditional": set(),
    "http/contract": {"access", "http/json", "http/parts", "jobs"},
    "http/delivery": {
        "http/json",
        "access",
        "callbacks",
        "http/contract",
        "http/guards",
        "http/parts",
        "http/problems",
        "http/registration",
        "jobs",
        "observability",
        "services",
    },
    "http/guards": {
        "access",
        "http/begun",
        "http/conditional",
        "http/contract",
        "http/parts",
        "http/problems",
        "service",
        "services",
        "wire",
    },
    "http/job_ids": {"http/contract"},
    "http/json": set(),
    "http/paging": {"services"},
    "http/parts": {"service"},
    "http/problems": {"http/contract", "jobs", "observability"},
    "http/quart_connection": {"http/begun", "http/quart_request"},
    "http/quart_dispatch": {"http/quart_connection", "http/quart_request"},
    "http/quart_request": set(),
    "http/registration": {"http/contract"},
    "http/routes": {
        "http/json",
        "access",
        "background",
        "http/conditional",
        "http/contract",
        "http/delivery",
        "http/guards",
        "http/job_ids",
        "http/paging",
        "http/parts",
        "http/problems",
        "jobs",
        "observability",
        "services",
        "tutorial",
    },
    "jobs": {"background", "db", "observability", "upstream"},
    "lifecycle": set(),
    "loading": {"app", "db", "service", "tutorial"},
    "migrations": set(),
    "moments": set(),
    "observability": set(),
    "problem_types": set(),
    "quick_imports": set(),
    "server": {"app", "loading", "observability", "service", "wire"},
    "resources": set(),
    "service": {"access", "background", "callbacks", "db", "jobs", "observability", "services", "upstream"},
    "services": {"access", "background", "callbacks", "db", "jobs", "observability", "upstream"},
    "settings": set(),
    "stored": set(),
    "tasks": set(),
    "testing": {"access", "app", "background", "client", "db", "jobs", "loading", "service"},
    "tutorial": {"upstream"},
    "upstream": set(),
    "validation": set(),
    "web": {
        "access",
        "callbacks",
        "http/contract",
        "http/delivery",
        "http/guards",
        "http/job_ids",
        "http/paging",
        "http/parts",
        "http/problems",
        "http/routes",
        "jobs",
        "observability",
        "services",
    },
    "wire": {"access", "observability", "services"},
}


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_arrow_points_back(file: Path) -> None:
    name = rooms.room(file.relative_to(ROOT).parts)
    imported = set(rooms.imports(file)) - {name, "__version__"}
    assert imported <= LEAVES | MAY_IMPORT[name]


def test_no_rooms_import_each_other_in_a_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


@cache
def imported() -> dict[Path, set[str]]:
    """The packages that each file imports, other than for its types alone."""
    found: dict[Path, set[str]] = {}
    for file in ROOT.rglob("*.py"):
        tree = ast.parse(file.read_text())
        typing_only = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for node in ast.walk(block)
        }
        modules = found[file] = set()
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                modules.update(name.name.split(".")[0] for name in node.names)
    return found


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("httpx", {"callbacks", "client", "testing", "upstream"}),
        ("httpx_sse", {"client"}),
        ("hypercorn", {"server"}),
        ("h11", {"server"}),
        ("wsproto", {"server"}),
        ("quart", {"http", "testing", "web", "app.py", "from_code.py"}),
        ("prometheus_client", {"observability"}),
        ("opentelemetry", {"observability"}),
        ("rich", {"commands"}),
    ],
)
def test_a_library_is_imported_in_its_room_alone(library: str, places: set[str]) -> None:
    files = [file.relative_to(ROOT) for file, libraries in imported().items() if library in libraries]
    assert [file for file in files if file.parts[0] not in places] == []


@pytest.mark.parametrize("module", [quart_async_api, quart_async_api.testing], ids=lambda module: module.__name__)
def test_the_public_names_are_sorted_and_there(module: ModuleType) -> None:
    assert sorted(module.__all__) == module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        _ = module.nothing
