"""The rooms of the package, read from its imports: which there are, what each is for, and which imports which."""

import ast
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import quart_async_api

ROOT = Path(quart_async_api.__file__).parent
# Modules at the top that any other may import. What they import of each other makes no room.
LEAVES = (
    "errors",
    "lifecycle",
    "moments",
    "problem_types",
    "quick_imports",
    "resources",
    "settings",
    "stored",
    "tasks",
    "validation",
)
Graph = Mapping[str, frozenset[str]]


def room(path: Sequence[str]) -> str:
    """The room of a file or module: the top one, and inside `http` the one below."""
    return "/".join(path[: 2 if path[0] == "http" else 1]).removesuffix(".py")


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """The rooms and top modules of the package that a file imports."""
    return frozenset(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1]
        elif (node.module or "").split(".")[0] == "quart_async_api":
            base = ()
        else:
            continue
        path = (node.module or "").split(".")
        target = [*base, *(path if node.level else path[1:])] if node.module else [*base]
        names = [[*target, name.name] for name in node.names] if len(target) < 2 else [target]
        yield from map(room, names)


@functools.cache
def graph() -> Graph:
    """Each room at the top with the rooms that it imports; the leaves, the public names and the migrations are left out."""
    return _without_leaves(lambda name: name.partition("/")[0])


@functools.cache
def inside_http() -> Graph:
    """The same for the folders of `http`."""
    found = _without_leaves(lambda name: name)
    folders = {name for name in found if (ROOT / name).is_dir() and name.startswith("http/")}
    return {name: found[name] & folders for name in sorted(folders)}


def _without_leaves(shown_as: Callable[[str], str]) -> Graph:
    arrows: dict[str, set[str]] = {}
    for file in sorted(ROOT.rglob("*.py")):
        name = shown_as(room(file.relative_to(ROOT).parts))
        found = arrows.setdefault(name, set())
        found |= {shown_as(each) for each in imports(file)} - {name}
    shown = {name for name in arrows if name not in (*LEAVES, "__init__", "migrations")}
    return {name: frozenset(arrows[name] & shown) for name in sorted(shown)}


def direct(arrows: Graph) -> Graph:
    """The arrows without those that follow from others."""
    below = {name: _below(name, arrows) for name in arrows}
    return {
        name: frozenset(each for each in found if not any(each in below[other] for other in found))
        for name, found in arrows.items()
    }


def _below(name: str, arrows: Graph) -> frozenset[str]:
    return arrows[name].union(*(_below(each, arrows) for each in arrows[name]))


def floors(arrows: Graph) -> list[list[str]]:
    """The rooms from the top: each as high as those above it allow, and what nobody imports right above what it imports."""
    importers = {name: {other for other in arrows if name in arrows[other]} for name in arrows}
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max(map(of, importers[name]), default=-1)
        return depth[name]

    lowest = max(map(of, arrows))
    for name in arrows:
        if not importers[name]:
            depth[name] = min((of(each) for each in arrows[name]), default=lowest + 1) - 1
    return [[name for name in arrows if depth[name] == floor] for floor in range(lowest + 1)]


def purpose(name: str) -> str:
    """The first sentence of the docstring of a room."""
    file = ROOT / f"{name}.py"
    text = (
        ast.get_docstring(ast.parse((file if file.is_file() else ROOT / name / "__init__.py").read_text("utf-8"))) or ""
    )
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def table() -> str:
    """Every room with its purpose and the rooms that it imports, from the top down; then the leaves."""
    rows = [(name, graph()[name]) for floor in floors(graph()) for name in floor]
    lines = ["| room | what it owns | imports |", "| --- | --- | --- |"]
    for name, found in rows:
        lines.append(f"| {_named(name)} | {_cell(purpose(name))} | {_listed(found)} |")
        if name == "http":
            folders = (each for floor in floors(inside_http()) for each in floor)
            lines += [
                f"| {_named(each)} | {_cell(purpose(each))} | {_listed(inside_http()[each])} |" for each in folders
            ]
    lines += [f"| {_named(name)} | {_cell(purpose(name))} | a leaf: any module may import it |" for name in LEAVES]
    return "\n".join(lines) + "\n"


def _named(name: str) -> str:
    return f"`{name}/`" if (ROOT / name).is_dir() else f"`{name}.py`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name.rpartition("/")[2] for name in sorted(names)) or "none"
