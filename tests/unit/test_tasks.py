"""@task: what it takes, what it refuses."""

from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from quart_async_api import Settings, Task, TaskContext, task
from quart_async_api.errors import SettingsError
from quart_async_api.service import Service
from quart_async_api.tasks import registry


@task("add")
async def add(ctx: TaskContext, *, left: int, right: int = 1) -> int:
    """Add two numbers.

    Slowly.
    """
    return left + right


def _module(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


async def test_a_task_is_still_the_function_that_it_was() -> None:
    context: Any = None
    assert await add(context, left=1, right=2) == 3


async def test_arguments_are_typed_and_have_defaults() -> None:
    context: Any = None
    assert add.summary == "Add two numbers"
    assert await add(context, **add.values(add.arguments(left=2))) == 3
    for bad in ({}, {"left": "x"}, {"left": 1, "more": 2}):
        with pytest.raises(ValidationError):
            add.arguments.model_validate(bad)
    assert add.arguments.model_json_schema()["required"] == ["left"]


def test_what_is_no_task_is_refused_with_how_to_write_one() -> None:
    def plain(ctx: TaskContext) -> int:
        return 1

    async def positional(ctx: TaskContext, left: int) -> int:
        return left

    async def untyped(ctx: TaskContext, *, left) -> int:  # type: ignore[no-untyped-def]
        return 1

    async def unsaid(ctx: TaskContext):  # type: ignore[no-untyped-def]
        return 1

    async def no_context() -> int:
        return 1

    async def hidden(ctx: TaskContext, *, _left: int) -> int:
        return 1

    async def shadowing(ctx: TaskContext, *, model_dump: int) -> int:
        return 1

    async def unknown_to_pydantic(ctx: TaskContext) -> ModuleType:
        return pytest

    functions: list[Any] = [plain, positional, untyped, unsaid, no_context, hidden, shadowing, unknown_to_pydantic]
    for function in functions:
        with pytest.raises(TypeError, match=r"task 'x'"):
            task("x")(function)


def test_the_registry_finds_tasks_by_name_and_refuses_two_of_one() -> None:
    async def other(ctx: TaskContext) -> int:
        return 1

    twin: Task = task("add")(other)
    assert registry([_module("one", add=add, again=add, text="x")]) == {"add": add}
    with pytest.raises(SettingsError, match="'add'"):
        registry([_module("one", add=add), _module("two", add=twin)])
    start, same = task("start-task")(other), task("start_task")(other)
    with pytest.raises(SettingsError, match=r"'start_task' and 'start-task', which are the same in /openapi\.json"):
        registry([start, same])
    with pytest.raises(SettingsError, match=r"'jobs-bulk' and 'jobs_bulk', .* the second is in quart_async_api"):
        Service(Settings(), registry([task("jobs_bulk")(other)]))
    sources: list[Any] = ["shop.tasks", other]
    for source in sources:
        with pytest.raises(SettingsError, match="name a task, which @task makes, or a module with tasks"):
            registry([source])


def test_a_task_without_a_name_is_refused_where_it_stands() -> None:
    bare: Any = task
    with pytest.raises(TypeError, match=r'write @task\("name"\)'):
        bare(add.function)


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines", "nul\0", "a/b", "-a", "ä"])
def test_a_name_that_postgresql_cannot_store_or_no_path_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the name must be 1 to 200 of a-z"):
        task(name)
    assert task("x" * 200)(add.function).name == "x" * 200


@pytest.mark.parametrize("name", ["", "Slow", "a b", "-slow", "x" * 41])
def test_a_queue_has_a_plain_name(name: str) -> None:
    async def wait(ctx: TaskContext) -> None: ...

    with pytest.raises(ValueError, match="queue"):
        task("wait", queue=name)(wait)
    assert task("wait", queue="slow-2")(wait).queue == "slow-2"
