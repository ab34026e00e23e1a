"""The reference pages say what the code says, and leave nothing out."""

import re
from collections.abc import Callable

import pytest
from docs.generate import DOCS, PAGES
from quart import Quart

from quart_async_api import Settings, create_app, tutorial
from quart_async_api.commands.main import main
from quart_async_api.http.contract.openapi import operations
from quart_async_api.problem_types import TYPES, ProblemType
from quart_async_api.settings import variable
from quart_async_api.tasks import TaskContext, registry


@pytest.fixture
def unstarted() -> Quart:
    return create_app(Settings())


def page(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize(("name", "render"), PAGES.items(), ids=PAGES)
def test_the_page_is_what_make_docs_writes_and_names_no_place_of_this_machine(
    name: str, render: Callable[[], str]
) -> None:
    written = render()
    assert (DOCS / name).read_text("utf-8") == written, "run `make docs`"
    assert str(DOCS.parent) not in written


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented_with_a_meaning(field: str) -> None:
    assert f"| `{variable(field)}` |" in page("settings")
    assert Settings.model_fields[field].description


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_every_problem_type_is_documented(kind: ProblemType) -> None:
    assert f"`{kind.uri}`" in page("problems")


@pytest.mark.parametrize("name", registry((tutorial,)))
def test_every_task_is_documented(name: str) -> None:
    assert f"### {name}\n" in page("tasks")


def test_everything_that_a_task_is_given_is_documented() -> None:
    for name in vars(TaskContext):
        assert name.startswith("_") or f"`ctx.{name}`" in page("tasks")


@pytest.mark.parametrize("name", main.commands)
def test_every_command_is_documented(name: str) -> None:
    assert f"## {name}\n" in page("command-line")


def test_every_route_has_a_contract_and_is_documented(unstarted: Quart) -> None:
    documented = {(path, method) for path, method, *_ in operations(unstarted)}
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in unstarted.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/static/", "/console"))  # for people alone
    }
    assert routes == documented | {("/sign-in", "GET"), ("/sign-in", "POST"), ("/sign-out", "POST")}  # of browsers
    for path, method in documented:
        assert f"### {method} {path}\n" in page("routes")
