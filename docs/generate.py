"""`python -m docs.generate` writes what is made from the code: the pages of docs/reference, and the rooms."""

import enum
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from benchmarks import figures, queueing_picture
from benchmarks.page import page as results
from pydantic.fields import FieldInfo

from quart_async_api import tutorial
from quart_async_api.app import create_app
from quart_async_api.commands.main import main as command_line
from quart_async_api.http.contract.openapi import document
from quart_async_api.http.contract.openapi_problems import ANYWHERE
from quart_async_api.observability.metric_names import METRICS, Kind
from quart_async_api.problem_types import TYPES
from quart_async_api.settings import Settings, variable
from quart_async_api.tasks import TaskContext, registry
from quart_async_api.web.fields import members

from . import drawing, public, rooms

DOCS = Path(__file__).parent
Json = dict[str, Any]

_NOTE = "<!-- Made from {source} by `make docs`: change it there. -->\n\n"
_ROOMS = "<!-- Made from the imports and docstrings by `make docs`: change them there. -->\n"
_ROOMS_END = "<!-- The end of what `make docs` makes. -->"
_HELP_WIDTH = 88
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = (heads, tuple("---" for _ in heads), *rows)
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in cells)


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".") + "."


def settings_page() -> str:
    """Every setting, from the fields of Settings."""
    properties: Json = Settings.model_json_schema()["properties"]
    rows = (
        (f"`{variable(name)}`", _default(field), field.description or "", _kind(properties[name], field))
        for name, field in Settings.model_fields.items()
    )
    return (
        _NOTE.format(source="`Settings` in src/quart_async_api/settings.py") + "# Settings\n\n"
        "Each setting is an environment variable, or a line in a file `.env` in the current folder. The environment overrides "
        "`.env`. An empty value means the default. A wrong value, or an unknown `QAA_` name, stops the start with one line "
        "that names it.\n\n"
        + _table(("name", "default", "meaning", "values"), rows)
        + "\n`DATABASE_URL`, in the environment or in `.env`, is used if `QAA_DATABASE_URL` is in neither.\n"
    )


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in ((), None):
        return "none"
    if isinstance(default, Path):
        return "packaged"  # its path differs on every machine
    if isinstance(default, bool):
        return f"`{int(default)}`"
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`"
    return f"`{default.value if isinstance(default, enum.Enum) else default}`"


def _kind(schema: Json, field: FieldInfo) -> str:
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    kinds = {"number": "a number", "integer": "a whole number", "boolean": "`0` or `1`", "array": "a list with commas"}
    kind = "a path" if schema.get("format") == "path" else kinds.get(schema.get("type", ""), "text")
    return ", ".join((kind, *_bounds(schema)))


def _bounds(schema: Json) -> list[str]:
    return [f"{words} {schema[key]:g}" if schema[key] < 10**6 else f"{words} {schema[key]}"
            for key, words in _BOUNDS.items() if key in schema]  # fmt: skip


def problems_page() -> str:
    """Every type of problem, from the table that turns errors into answers."""
    sections = (
        f"## {kind.title}\n\n"
        + f"`{kind.uri}` · status {kind.status}"
        + (f" · `Retry-After: {kind.retry_after}`" if kind.retry_after is not None else "")
        + f"\n\n{kind.explanation}\n"
        for kind in sorted(TYPES.values(), key=lambda kind: (kind.status, kind.slug))
    )
    return (
        _NOTE.format(source="`TYPES` in src/quart_async_api/problem_types.py") + "# Problems\n\n"
        "Every response with a status of 400 or more is a problem document (RFC 9457), `application/problem+json`. Its members "
        "are `type`, `title`, `status`, `detail`, `instance`, `request_id`, and `error`, a copy of the title for tutorial "
        "clients. A running service has a page for each type at the path in `type`, and a list at `/problems`. A status "
        "that is not listed here has the type `about:blank`.\n\n" + "\n".join(sections)
    )


def routes_page() -> str:
    """Every route, from the OpenAPI document."""
    api: Json = json.loads(document(create_app(Settings())))
    by_tag: dict[str, list[tuple[str, str, Json]]] = {}
    sockets = {path: {"get": described} for path, described in api["x-websockets"].items()}
    for path, methods in sorted((api["paths"] | sockets).items()):
        for method, described in methods.items():
            by_tag.setdefault(described["tags"][0], []).append((method.upper(), path, described))
    sections = (
        f"## {tag}\n\n" + "\n".join(_route(method, path, described, api) for method, path, described in routes)
        for tag, routes in by_tag.items()
    )
    anywhere = ", ".join(map(str, sorted({kind.status for kind in ANYWHERE})))
    return (
        _NOTE.format(source="the routes' @operation, by way of the OpenAPI document,") + "# Routes\n\n"
        "A running service publishes the same at `/openapi.json` (OpenAPI 3.1) and `/docs`. Every GET route supports HEAD, "
        "and every route supports OPTIONS. "
        f"Any route may also answer {anywhere} with a [problem](problems.md). Every response has `X-Request-ID`.\n\n"
        + "\n".join(sections)
    )


def _route(method: str, path: str, described: Json, api: Json) -> str:
    deprecated = " Deprecated." if described.get("deprecated") else ""
    lines = [
        f"### {method} {path}\n",
        f"{_sentence(described['summary'])} {described['description']}{deprecated}".rstrip() + "\n",
    ]
    if parameters := described.get("parameters"):
        rows = (
            (f"`{item['name']}`", item["in"], _shape(item["schema"], api), item.get("description", ""))
            for item in parameters
        )
        lines.append(_table(("parameter", "in", "values", "meaning"), rows))
    if body := described.get("requestBody"):
        schema = _resolved(body["content"]["application/json"]["schema"], api)
        described_members = (
            (f"`{name}`", _shape(dict(member), api) + (", required" if required else ""))
            for name, required, member in members(schema, api["components"]["schemas"])
        )
        lines.append(_table(("member of the JSON body", "values"), described_members))
    lines += [
        f"- {status}: {_answer(answer)}" for status, answer in described["responses"].items() if "$ref" not in answer
    ]
    return "\n".join(lines) + "\n"


def _answer(answer: Json) -> str:
    names = [f"`{name}`" for name, header in answer.get("headers", {}).items() if "$ref" not in header]
    headers = f" Headers: {', '.join(names)}." if names else ""
    content: Json = answer.get("content", {})
    media = f" ({', '.join(f'`{name}`' for name in content)})" if content else ""
    return f"{answer['description']}{media}.{headers}"


def _resolved(schema: Json, api: Json) -> Json:
    while "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _shape(schema: Json, api: Json) -> str:
    return ", ".join(_shape_words(_resolved(schema, api), api))


def _shape_words(schema: Json, api: Json) -> Iterator[str]:
    if "enum" in schema:
        yield " or ".join(f"`{value}`" for value in schema["enum"])
    elif "anyOf" in schema:
        yield " or ".join(_shape(choice, api) for choice in schema["anyOf"] if choice.get("type") != "null")
    elif schema.get("type") == "array":
        yield f"a list of {_shape(schema.get('items', {}), api)}"
    else:
        yield str(schema.get("format") or schema.get("type", "any JSON"))
    yield from _bounds(schema)
    for key, words in (("minLength", "at least {} characters"), ("maxLength", "at most {} characters"),
                       ("maxItems", "at most {} of them")):  # fmt: skip
        if key in schema:
            yield words.format(schema[key])
    if schema.get("default") not in (None, "", [], ()):
        yield f"default `{schema['default']}`"


def tasks_page() -> str:
    """Every task of the tutorials, and what a task is given."""
    sections = (
        f"### {task.name}\n\n{_sentence(task.summary)}\n\n{_arguments(task.arguments.model_json_schema())}"
        for task in registry((tutorial,)).values()
    )
    members = (
        (f"`ctx.{name}`", _sentence(inspect.getdoc(member) or "The [settings](settings.md)"))
        for name, member in vars(TaskContext).items()
        if not name.startswith("_")
    )
    return (
        _NOTE.format(source="src/quart_async_api/tasks.py and tutorial.py") + "# Tasks\n\n"
        "How to write a task: [add a task](../how-to/add-a-task.md).\n\n## Members of `ctx`\n\n"
        + _table(("member", "meaning"), members)
        + "\n## Tutorial tasks\n\n"
        + "\n".join(sections)
    )


def _arguments(schema: Json) -> str:
    properties: Json = schema.get("properties", {})
    if not properties:
        return "No arguments.\n"
    rows = ((f"`{name}`", _shape(item, {}), item.get("description", "")) for name, item in properties.items())
    return _table(("argument", "values", "meaning"), rows)


def command_line_page() -> str:
    """Every command's own --help."""
    sections = [
        f"## {name}\n\n```text\n{_help(command, f'quart-async-api {name}')}\n```\n"
        for name, command in _commands(command_line)
    ]
    return (
        _NOTE.format(source="src/quart_async_api/commands/main.py") + "# Command line\n\n"
        "`quart-async-api` and `python -m quart_async_api` are the same command. The exit code is 0 only for success. A "
        "mistake is reported as one line on standard error.\n\n```text\n"
        + _help(command_line, "quart-async-api")
        + "\n```\n\n"
        + "\n".join(sections)
    )


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")


def _help(command: click.Command, name: str) -> str:
    settings: Json = {**command.context_settings, "terminal_width": _HELP_WIDTH}
    settings.setdefault("help_option_names", ["-h", "--help"])
    return command.get_help(click.Context(command, info_name=name, **settings))


def architecture_page() -> str:
    """The page about the rooms, with their table as the imports are now."""
    text = (DOCS / "architecture.md").read_text("utf-8")
    before, start, rest = text.partition(_ROOMS)
    _, end, after = rest.partition(_ROOMS_END)
    return f"{before}{start}\n{rooms.table()}\n{end}{after}"


def metrics_page() -> str:
    """Every metric, from its table."""
    types = {Kind.GREATEST: "gauge", Kind.DATABASE: "gauge"}
    rows = (
        (
            f"`{metric.name}`",
            types.get(metric.kind, metric.kind.value),
            ", ".join(f"`{each}`" for each in metric.labels),
            metric.help,
        )
        for metric in METRICS
        if metric.kind is not Kind.DATABASE
    )
    of_all = (
        (f"`{metric.name}`", ", ".join(f"`{each}`" for each in metric.labels), metric.help)
        for metric in METRICS
        if metric.kind is Kind.DATABASE
    )
    return (
        _NOTE.format(source="src/quart_async_api/observability/metric_names.py") + "# Metrics\n\n"
        "`GET /metrics` answers in the text format of Prometheus. It needs the extra `observability` "
        "(`make run EXTRAS=observability`). `QAA_METRICS=0` turns it off. Once keys exist, it needs one with the scope "
        "`metrics`: `quart-async-api keys create --name prometheus --scope metrics`. What to do when an alert fires: "
        "[watch the service](../how-to/watch.md).\n\n## Of a server\n\n"
        "With `serve --processes N`, any process answers for all of them. Add up these metrics over hosts.\n\n"
        + _table(("name", "type", "labels", "meaning"), rows)
        + "\n## Of the database\n\nThese gauges are the same in each server and worker of one database: take the maximum, not "
        "the sum. They are read at most every five seconds, and `qaa_database_up` is 0 if that takes longer than two.\n\n"
        + _table(("name", "labels", "meaning"), of_all)
    )


def benchmarks_page() -> str:
    """The results that `make bench-keep` has kept."""
    note = _NOTE.format(source="benchmarks/results, benchmarks/goals.py and benchmarks/reasons.toml")
    return note + results(figures.read(figures.KEPT), "../../benchmarks/results/")


PAGES: Mapping[str, Callable[[], str]] = {
    "architecture.md": architecture_page,
    "assets/rooms.svg": drawing.picture,
    "assets/queueing.svg": queueing_picture.picture,
    "reference/settings.md": settings_page,
    "reference/problems.md": problems_page,
    "reference/routes.md": routes_page,
    "reference/tasks.md": tasks_page,
    "reference/command-line.md": command_line_page,
    "reference/benchmarks.md": benchmarks_page,
    "reference/metrics.md": metrics_page,
    "reference/public.txt": public.names,
}


def main() -> None:
    """Write what differs from the code."""
    for name, render in PAGES.items():
        page, text = DOCS / name, render()
        if not page.is_file() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
            sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
