"""The public names with their signatures, as text: a change of what users build on is a change of docs/reference/public.txt."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import quart_async_api
import quart_async_api.client
import quart_async_api.testing

MODULES: tuple[ModuleType, ...] = (quart_async_api, quart_async_api.client, quart_async_api.testing)

_NOTE = """\
# The public names of quart-async-api, made from the source by `make docs`. A changed line can break a service that is
# built on this one: see stability.md. Members of classes of other packages are not listed.
"""
_SIMPLE = (ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.UnaryOp)


def names() -> str:
    """Return each public name with its signature, and each public member of a class, one a line."""
    parts = [_NOTE]
    for module in MODULES:
        parts.append(f"\n## {module.__name__}\n\n")
        for name in sorted(module.__all__):
            parts += [f"{line}\n" for line in _lines(name, getattr(module, name))]
    return "".join(parts)


def _lines(name: str, thing: object) -> Iterator[str]:
    if inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        foreign = [base for base in thing.__mro__ if not _is_ours(base) and base is not object]
        seen = {name for base in foreign for name in vars(base)} - {
            "__init__"
        }  # overridden: no surface of this package
        for owner in thing.__mro__:
            if _is_ours(owner):
                members = [(member, line) for node in _parsed(owner).body for member, line in _member(node)]
                yield from (f"    {line}" for member, line in members if member not in seen)
                seen |= {member for member, _ in members}
    elif inspect.isfunction(thing):
        yield from (line for _, line in _member(_parsed(thing)))
    else:
        yield f"{name}: {type(thing).__name__}" if isinstance(thing, str) else f"{name} = {thing!r}"


def _is_ours(owner: type) -> bool:
    return owner.__module__.partition(".")[0] == quart_async_api.__name__


def _parsed(thing: type | FunctionType) -> Any:
    [node] = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    return node


def _member(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield name and line of what a statement defines, if that is public."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name == "__init__" or name[0] != "_":
            marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list)
            kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
            returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield name, f"{marks}{kind} {name}({ast.unparse(node.args)}){returned}"
            yield from _attributes(node.body if name == "__init__" else [])
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value) if name[0] != "_":
            default = "" if value is None else f" = {ast.unparse(value) if isinstance(value, _SIMPLE) else '…'}"
            yield name, f"{name}: {ast.unparse(annotation)}{default}"
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name[0] != "_":
            yield name, f"{name} = {ast.unparse(value) if isinstance(value, _SIMPLE) else '…'}"


def _attributes(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield what a constructor makes a public attribute."""
    for node in body:
        match node:
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=annotation) if name[0] != "_":
                yield name, f"{name}: {ast.unparse(annotation)}"
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]) if name[0] != "_":
                yield name, name
